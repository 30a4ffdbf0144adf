//! The nodes of a scenario, their lines, and their origin, before anything is wanted.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use larder_harness::hub::{HubBuilder, HubServer, Repo, Tree};
use larder_harness::market::{ADDRESSES, Host, Known, Market, Network, Order, Place, Rogue, RogueNode, Traffic, job_of, pass, wait_for};
use larder_harness::scenario::{Lying, Plan, PlannedResource, Scenario, Way};

use crate::distant::DistantHub;
use crate::workplace::Workplace;

/// How long nodes rest between the moment when all are connected and the first arrival.
const SETTLE: Duration = Duration::from_secs(3);
/// How long a node may take to get warm.
const WARM_WITHIN: Duration = Duration::from_secs(600);

/// Everything that a scenario is played with.
pub(super) struct Stage {
    /// The nodes that lie, by their numbers.
    rogues: BTreeMap<usize, RogueNode>,
    pub(super) market: Market,
    pub(super) hub: HubServer,
    resources: Vec<PlannedResource>,
    warm: Vec<Vec<usize>>,
    lone: bool,
    origin_rate: Option<u64>,
    net: Option<Net>,
}

/// The hosts of nodes that have lines of their own.
struct Net {
    origin: Host,
    hosts: Vec<Host>,
    network: Network,
}

fn rogue(lies: Lying) -> Rogue {
    match lies {
        Lying::WrongBytes => Rogue::SendsFalse,
        Lying::SwearsFalse => Rogue::SwearsFalse,
        Lying::SwearsNearly => Rogue::SwearsNearly,
        Lying::Stalls => Rogue::Stalls,
        Lying::Refuses => Rogue::Refuses,
        Lying::Dawdles => Rogue::Dawdles,
        Lying::SendsOther => Rogue::SendsOther,
        Lying::SignsFalse => Rogue::SignsFalse,
        Lying::SignsNearly => Rogue::SignsNearly,
    }
}

impl Stage {
    /// Sets all up. The origin's line has no limit yet, and the nodes do not run.
    pub(super) fn new(scenario: &Scenario, plan: &Plan, way: Way, workplace: &Workplace) -> anyhow::Result<Self> {
        let rate = scenario.origin.rate.map(|rate| rate.0);
        let mut hub = HubBuilder::new();
        for resource in &plan.resources {
            hub = hub.repo(Repo::model(&id(&resource.name)).at("main", tree(resource)?));
        }
        let (hub, mut net) = if way == Way::Namespaces {
            let network = Network::new()?;
            let DistantHub { hub, host: origin } = DistantHub::start(&network, hub)?;
            (hub, Some(Net { origin, hosts: Vec::new(), network }))
        } else {
            (rate.into_iter().fold(hub, HubBuilder::rate).start()?, None)
        };
        let mut market = workplace.market(&scenario.name, ADDRESSES[0], hub.endpoint())?;
        if !scenario.lone {
            let place = net.as_ref().map_or(Ok(Place::Loopback), |net| net.bootstrap(plan))?;
            market.start_bootstrap(place)?;
        }
        let names: Vec<String> = plan.resources.iter().map(|resource| format!("models/{}", id(&resource.name))).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut rogues = BTreeMap::new();
        for (number, node) in plan.nodes.iter().enumerate() {
            let place = match &mut net {
                Some(net) => net.add(number, node.uplink, node.downlink)?,
                None => Place::Loopback,
            };
            if let Some(lies) = node.lies {
                ensure!(!scenario.lone, "lies: there is nobody to lie to where each node is by itself");
                // It has a number as all others have, and no daemon.
                let number = market.add_lone(place.clone())?;
                rogues.insert(number, market.start_rogue(rogue(lies), Known::of(&hub, &names)?, &place)?);
                continue;
            }
            let settings =
                [("LARDER_STORE_QUOTA_BYTES", node.disk), ("LARDER_PEERS_UPLOAD_BYTES_PER_SECOND", node.uplink.filter(|_| net.is_none()))];
            let settings: Vec<(&str, String)> = settings.into_iter().filter_map(|(name, value)| Some((name, value?.to_string()))).collect();
            let listens = if node.reachable { place.address() } else { std::net::Ipv4Addr::LOCALHOST };
            let _: usize = if scenario.lone { market.add_lone(place)? } else { market.add_listening_at(place, listens)? };
            settings.iter().for_each(|(name, value)| market.nodes()[number].set(name, value));
        }
        let warm = plan.nodes.iter().map(|node| node.warm.clone()).collect();
        Ok(Self { rogues, market, hub, resources: plan.resources.clone(), warm, lone: scenario.lone, origin_rate: rate, net })
    }

    /// Starts the daemons, has the warm ones get what they hold, and limits the origin's line.
    pub(super) fn get_ready(&mut self) -> anyhow::Result<()> {
        if !self.lone {
            let all: Vec<usize> = (0..self.warm.len()).filter(|number| !self.rogues.contains_key(number)).collect();
            self.market.run(&all)?;
            self.market.wait_until_connected(&all, 1)?;
        }
        // One after the other: the first takes it from the origin, the others from those before.
        for (node, resources) in self.warm.clone().into_iter().enumerate().filter(|(_, resources)| !resources.is_empty()) {
            let order = Order { node, definition: self.job(&resources), root: "warm".to_owned() };
            let mut race = self.market.line_up_each(&[order], None)?;
            race.start()?;
            for one in race.finish(WARM_WITHIN)? {
                ensure!(one.is_ready(), "{} did not get warm: {}", one.node, one.told);
            }
            // A job has it before it is held against the digest that others ask for it by.
            if !self.lone {
                let node = &self.market.nodes()[node];
                wait_for("a warm node to hold it", WARM_WITHIN, || Ok((node.look()?["fetching"] == 0).then_some(())))?;
            }
        }
        if let (Some(net), Some(rate)) = (&self.net, self.origin_rate) {
            net.origin.limit_sending(rate)?;
        }
        pass(SETTLE)
    }

    /// Peer ids, and whose number each is.
    pub(super) fn numbers(&mut self) -> BTreeMap<String, usize> {
        let nodes = self.market.nodes().iter().enumerate().map(|(number, node)| (node.peer().to_owned(), number));
        nodes.chain(self.rogues.iter().map(|(number, rogue)| (rogue.peer().to_owned(), *number))).collect()
    }

    /// The job that wants these resources.
    pub(super) fn job(&self, resources: &[usize]) -> String {
        let names: Vec<(String, &str)> = resources
            .iter()
            .map(|resource| &self.resources[*resource])
            .map(|resource| (id(&resource.name), resource.name.as_str()))
            .collect();
        job_of(names.iter().map(|(id, folder)| (id.as_str(), *folder)))
    }

    /// What each set of resources that a job may want is made of, below its target: sha256 by path.
    pub(super) fn right(&self) -> anyhow::Result<BTreeMap<Vec<usize>, BTreeMap<String, String>>> {
        let mut right: BTreeMap<Vec<usize>, BTreeMap<String, String>> = BTreeMap::new();
        let mut all = BTreeMap::new();
        for (number, resource) in self.resources.iter().enumerate() {
            let files = self.hub.sha256s(&format!("models/{}", id(&resource.name)), "main")?;
            let files: BTreeMap<String, String> =
                files.into_iter().map(|(path, hash)| (format!("{}/{path}", resource.name), hash)).collect();
            all.extend(files.clone());
            right.insert(vec![number], files);
        }
        right.insert((0..self.resources.len()).collect(), all);
        Ok(right)
    }

    /// The bytes of the distinct files of these resources.
    pub(super) fn distinct_bytes(&self, resources: impl IntoIterator<Item = usize>) -> u64 {
        let files =
            resources.into_iter().flat_map(|resource| self.hub.files(&format!("models/{}", id(&self.resources[resource].name)), "main"));
        let distinct: BTreeMap<(String, u64), u64> =
            files.map(|file| ((file.sha256.unwrap_or(file.git_oid), file.size), file.size)).collect();
        distinct.values().sum()
    }

    /// What went over each node's line, then over the origin's; empty where they have none.
    pub(super) fn traffic(&self) -> anyhow::Result<Vec<Traffic>> {
        self.net.iter().flat_map(|net| net.hosts.iter().chain([&net.origin])).map(Host::traffic).collect()
    }
}

impl Net {
    fn bootstrap(&self, plan: &Plan) -> anyhow::Result<Place> {
        let host = self.network.host("bootstrap", Network::address(1))?;
        plan.nodes.iter().filter_map(|node| node.uplink).max().map_or(Ok(()), |rate| host.limit_sending(rate))?;
        Ok(Place::Host(host))
    }

    fn add(&mut self, number: usize, uplink: Option<u64>, downlink: Option<u64>) -> anyhow::Result<Place> {
        let address = Network::address(u16::try_from(number + 2).context("too many nodes")?);
        let host = self.network.host(&format!("node{number}"), address)?;
        uplink.map_or(Ok(()), |rate| host.limit_sending(rate))?;
        downlink.map_or(Ok(()), |rate| host.limit_receiving(rate))?;
        self.hosts.push(host.clone());
        Ok(Place::Host(host))
    }
}

/// The repository of a resource.
fn id(resource: &str) -> String {
    format!("scenario/{resource}")
}

fn tree(resource: &PlannedResource) -> anyhow::Result<Tree> {
    match &resource.folder {
        Some(folder) => Tree::folder(folder).with_context(|| format!("the resource {}", resource.name)),
        None => Ok(resource.files.iter().fold(Tree::new(), |tree, file| tree.generated(&file.path, file.bytes))),
    }
}
