//! A network between two ends whose packets can be lost without a word to either.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::AsFd;
use std::process::{Command, id};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::relay;

/// Nobody's hardware address: frames to it are taken by no one.
const NOBODY: &str = "02:00:00:00:00:99";

/// A pair of virtual interfaces, one here and one in a network namespace of its own, where a relay listens.
#[derive(Debug)]
pub(crate) struct Cable {
    /// Of the namespace, and of the interface on this side.
    name: String,
    here: Ipv4Addr,
    there: SocketAddrV4,
}

impl Cable {
    /// Lays one to a port of loopback; why not, where this process may make no networks.
    pub(crate) fn to(port: u16) -> Result<Self, String> {
        let name = format!("rbacx{}", id());
        // Of 198.18.0.0/15, which is for tests of networks: four addresses for each process.
        let [.., high, low] = (id() << 2).to_be_bytes();
        let here = Ipv4Addr::new(198, 18, high, low | 1);
        let there = Ipv4Addr::new(198, 18, high, low | 2);
        ip(&["netns", "add", &name])?;
        let mut cable = Self {
            name: name.clone(),
            here,
            there: SocketAddrV4::new(there, 0),
        };
        let peer = ["type", "veth", "peer", "name", "eth0", "netns", &name];
        ip(&[&["link", "add", &name][..], &peer].concat())?;
        ip(&["addr", "add", &format!("{here}/30"), "dev", &name])?;
        ip(&["link", "set", &name, "up"])?;
        ip(&[
            "-n",
            &name,
            "addr",
            "add",
            &format!("{there}/30"),
            "dev",
            "eth0",
        ])?;
        ip(&["-n", &name, "link", "set", "eth0", "up"])?;
        let namespace = File::open(format!("/run/netns/{name}")).map_err(|e| e.to_string())?;
        // A socket belongs to the namespace that its thread was in when it was made.
        let binding = thread::spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            TcpListener::bind((there, 0))
        });
        let listener = binding
            .join()
            .expect("no panic")
            .map_err(|e| e.to_string())?;
        cable
            .there
            .set_port(listener.local_addr().map_err(|e| e.to_string())?.port());
        relay::pass_on(listener, port);
        Ok(cable)
    }

    /// Where to connect to.
    pub(crate) fn end(&self) -> SocketAddrV4 {
        self.there
    }

    /// From now on every packet is lost, in both directions.
    pub(crate) fn cut(&self) {
        let (here, there) = (self.here.to_string(), self.there.ip().to_string());
        let lost = ["lladdr", NOBODY, "nud", "permanent"];
        ip(&[&["neigh", "replace", &there, "dev", &self.name][..], &lost].concat()).unwrap();
        let back = ["-n", &self.name, "neigh", "replace", &here, "dev", "eth0"];
        ip(&[&back[..], &lost].concat()).unwrap();
    }

    /// From now on they arrive again.
    pub(crate) fn mend(&self) {
        let (here, there) = (self.here.to_string(), self.there.ip().to_string());
        ip(&["neigh", "del", &there, "dev", &self.name]).unwrap();
        ip(&["-n", &self.name, "neigh", "del", &here, "dev", "eth0"]).unwrap();
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        // The interfaces go with it; on this side no one is left to hear what went wrong.
        let _ = ip(&["netns", "del", &self.name]);
        let _ = ip(&["link", "del", &self.name]);
    }
}

/// Runs `ip` of iproute2.
fn ip(args: &[&str]) -> Result<(), String> {
    let ended = Command::new("ip").args(args).output();
    let ended = ended.map_err(|e| format!("ip: {e}"))?;
    let said = String::from_utf8_lossy(&ended.stderr);
    ended
        .status
        .success()
        .then_some(())
        .ok_or(format!("ip {}: {said}", args.join(" ")))
}
