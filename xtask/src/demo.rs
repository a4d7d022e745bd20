//! `cargo xtask demo`: everything built and served on one port.

use std::net::SocketAddr;

use anyhow::Result;

use crate::project::{Project, step};
use crate::{build, setup};

/// Sets up, builds, and serves until interrupted.
pub(crate) fn run(project: &Project, listen: SocketAddr) -> Result<()> {
    setup::run(project, setup::BUILD)?;
    build::everything(project)?;
    let server = step("server: compile", || build::server(project, "release"))?;
    println!("\nOpen http://{listen}/ here, and the link it shows there in another browser. Ctrl-C ends it.\n");
    let listen = listen.to_string();
    Ok(project.shell.cmd(server).args(["--listen", &listen, "--static"]).arg(project.path("demo/dist")).run()?)
}
