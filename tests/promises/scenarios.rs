//! Scenarios, played as a person plays them: with `larder-harness run`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use larder_harness::market::binary;
use larder_harness::report::Report;
use larder_harness::scenario::{Scenario, Way};

/// Those that ship.
fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/harness/scenarios")
}

/// Plays the scenario in `file` in a folder of its own, and reads the report that it wrote.
fn play(file: &Path, way: &str) -> (Output, Report) {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("report.json");
    let page = folder.path().join("report.html");
    let harness = binary().unwrap().with_file_name("larder-harness");
    let mut command = Command::new(harness);
    command.arg("run").arg(file).args(["--way", way, "--folder"]).arg(folder.path().join("markets"));
    let output = command.arg("--json").arg(&json).arg("--html").arg(&page).output().unwrap();
    let told = || format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(json.is_file(), "{}", told());
    assert!(std::fs::read_to_string(page).unwrap().contains("</html>"));
    let report = Report::read(&json).unwrap();
    (output, report)
}

/// How long it took, and what was read from the origin meanwhile, depend on what else this machine does: `scripts/scenarios` holds these.
const DEPENDS_ON_THE_MACHINE: [&str; 2] = ["time_x_max", "origin_x_max"];

/// Plays a scenario that ships, whose limits hold.
fn kept(file: &str, way: &str) -> Report {
    let (output, report) = play(&shipped().join(file), way);
    let kept = report.limits.iter().all(|limit| limit.kept || DEPENDS_ON_THE_MACHINE.contains(&limit.limit.as_str()));
    assert!(kept, "{file}: {}", String::from_utf8_lossy(&output.stdout));
    report
}

#[test]
fn every_scenario_that_ships_is_one_and_has_limits() {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(shipped()).unwrap() {
        let path = entry.unwrap().path();
        let scenario = Scenario::open(&path).unwrap_or_else(|error| panic!("{error:#}"));
        assert_eq!(Some(scenario.name.as_str()), path.file_stem().and_then(|stem| stem.to_str()));
        assert!(scenario.limits != larder_harness::scenario::Limits::default(), "{} promises nothing", scenario.name);
        let simulates = scenario.ways.contains(&Way::Simulated);
        assert!(simulates, "{}: every scenario can be simulated", scenario.name);
        names.push(scenario.name);
    }
    assert!(names.len() > 20, "{names:?}");
}

#[test]
fn who_finds_a_model_warm_takes_it_from_those_who_hold_it() {
    let report = kept("warm.toml", "processes");
    assert_eq!((report.origin.body_bytes, report.jobs.len()), (0, 6));
    let fed: u64 = report.fed.iter().map(|fed| fed.bytes).sum();
    assert!(fed >= 6 * report.wanted_bytes, "who fed whom accounts for {fed} bytes");
    assert!(report.timeline.windows(2).all(|pair| pair[0].at_s <= pair[1].at_s && pair[0].from.peers <= pair[1].from.peers));
}

#[test]
fn liars_cost_bytes_and_bans_and_corrupt_nothing() {
    let report = kept("liars.toml", "processes");
    assert!(report.nodes.iter().map(|node| node.bans).sum::<u64>() > 0, "nobody noticed");
    let copies = report.origin.body_bytes as f64 / report.wanted_bytes as f64;
    assert!(copies < 3.5, "{copies} copies for seven honest nodes: they shared nothing");
    assert!(report.fed.iter().all(|fed| report.nodes[fed.from].lies.is_none()), "what a liar sent does not count");
}

/// Real nodes and simulated ones come to the same: bytes of the origin within half a copy, of peers within that and an eighth of all, and the last
/// node is at most a quarter and half a second faster than simulated, and at most three times as slow and 5 s on a machine that does other work.
#[test]
fn processes_and_the_simulation_agree() {
    let scene = |cold: &str| {
        format!(
            r#"
            name = "agree"
            about = "Small enough to be played both ways."
            ways = ["processes", "simulated"]
            patience = "none"
            origin = {{ rate = "6MB/s" }}
            resources = [{{ name = "model", files = [{{ bytes = "24MB" }}, {{ bytes = "20kB" }}] }}]
            nodes = [{cold}]
            limits = {{ corrupt_max = 0, failed_max = 0 }}
            "#
        )
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("agree.toml");
    for nodes in ["{ count = 1 }", "{ count = 4 }", "{ count = 1, warm = [\"model\"] }, { count = 3 }"] {
        std::fs::write(&file, scene(nodes)).unwrap();
        let [real, simulated] = ["processes", "simulated"].map(|way| {
            let (output, report) = play(&file, way);
            assert!(output.status.success(), "{nodes}, {way}: {}", String::from_utf8_lossy(&output.stdout));
            report
        });
        let wanted = real.wanted_bytes as f64;
        assert_eq!(real.wanted_bytes, simulated.wanted_bytes);
        let [copies, expected] = [&real, &simulated].map(|report| report.origin.body_bytes as f64 / wanted);
        assert!((copies - expected).abs() < 0.5, "{nodes}: {copies} copies left the origin, simulated {expected}");
        let [fed, expected] = [&real, &simulated].map(|report| report.jobs.iter().map(|job| job.from.peers).sum::<u64>() as f64);
        let all = wanted * real.jobs.len() as f64;
        assert!((fed - expected).abs() < all / 8.0 + wanted / 2.0, "{nodes}: peers gave {fed}, simulated {expected}");
        let last = |report: &Report| report.jobs.iter().filter_map(|job| job.waited_s).fold(0.0, f64::max);
        let (took, expected) = (last(&real), last(&simulated));
        assert!((0.75 * expected - 0.5..3.0 * expected + 5.0).contains(&took), "{nodes}: the last took {took} s, simulated {expected} s");
    }
}

#[test]
fn a_limit_that_is_broken_fails_the_command_and_says_which() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broken.toml");
    let text = r#"
        name = "broken"
        about = "One node takes everything from the origin, which is not allowed here."
        ways = ["processes"]
        resources = [{ name = "model", files = [{ bytes = "2MB" }] }]
        nodes = [{}]
        limits = { origin_x_max = 0.5 }
    "#;
    std::fs::write(&file, text).unwrap();
    let (output, report) = play(&file, "processes");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && !report.is_kept(), "{told}");
    assert!(told.contains("BROKEN") && told.contains("content from the origin"), "{told}");
}
