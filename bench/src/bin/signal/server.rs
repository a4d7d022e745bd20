//! A server under test: a process of its own on core 0.

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep},
};

/// How long a server may take to be there.
const PATIENCE: Duration = Duration::from_secs(20);

/// Which server.
pub(crate) enum Kind {
    /// The path of our binary.
    Ours(String),
    /// One that does nothing but relay: the path of `floor`.
    Floor(PathBuf),
    /// PeerJS's.
    Peer,
    /// y-webrtc's.
    YWebrtc,
}

pub(crate) struct Server {
    child: Child,
    port: u16,
    protocol: Protocol,
}

/// What its clients say.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Ours,
    Peer,
    YWebrtc,
}

impl Kind {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Ours(_) => "ours",
            Self::Floor(_) => "floor",
            Self::Peer => "peer",
            Self::YWebrtc => "y-webrtc",
        }
    }
}

impl Server {
    pub(crate) async fn start(kind: &Kind) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]).stdout(Stdio::null()).stderr(Stdio::null());
        let port_text = port.to_string();
        let protocol = match kind {
            Kind::Ours(path) => {
                command.arg(path).args(["--listen", &format!("127.0.0.1:{port}"), "--drain", "0"]);
                command.args(["--max-connections-per-address", "100000"]);
                command.args(["--messages-per-second", "1000000", "--message-burst", "1000000"]);
                Protocol::Ours
            }
            Kind::Floor(path) => {
                command.arg(path).arg(&port_text);
                Protocol::Ours
            }
            Kind::Peer => {
                command.args(["node", "bench/node_modules/peer/dist/bin/peerjs.js", "--host", "127.0.0.1"]);
                command.args(["--port", &port_text, "--concurrent_limit", "100000"]);
                Protocol::Peer
            }
            Kind::YWebrtc => {
                command.args(["node", "bench/node_modules/y-webrtc/bin/server.js"]).env("PORT", port_text);
                Protocol::YWebrtc
            }
        };
        let child = command.spawn().context("taskset, node and the packages of bench/package-lock.json are needed")?;
        let mut server = Self { child, port, protocol };
        let give_up = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            if Instant::now() > give_up || server.child.try_wait()?.is_some() {
                bail!("{} does not start", kind.name());
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(server)
    }

    pub(crate) fn protocol(&self) -> Protocol {
        self.protocol
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Memory that it has now.
    pub(crate) fn resident_bytes(&self) -> Result<usize> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: usize = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib * 1024)
    }

    /// Processor time that it has had, of all its threads.
    pub(crate) fn processor_time(&self) -> Result<Duration> {
        let mut nanos = 0;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
            nanos += text.split(' ').next().context("no time")?.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanos))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
