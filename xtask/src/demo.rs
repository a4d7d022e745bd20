//! `cargo xtask demo`: everything built and served on one port.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::project::{Project, step};
use crate::{build, setup};

/// Sets up, builds, and serves until interrupted.
pub(crate) fn run(project: &Project, listen: &str) -> Result<()> {
    setup::run(project, setup::BUILD)?;
    build::everything(project)?;
    let server = step("server: compile", || build::server(project, "release"))?;

    let mut command = Command::new(&server);
    command.args(["--listen", listen, "--static"]).arg(project.path("demo/dist")).stdout(Stdio::piped());
    let mut running = command.spawn().with_context(|| format!("cannot start {}", server.display()))?;
    let mut lines = BufReader::new(running.stdout.take().context("the server has an output")?).lines();
    // Its first line ends in where it listens, once it does.
    if let Some(line) = lines.next().transpose()?
        && let Some(url) = line.split_whitespace().last()
    {
        println!("\nOpen {url}/ and send the link that the page then shows to somebody. Ctrl-C ends the server.\n");
    }
    for line in lines {
        println!("{}", line?);
    }
    let status = running.wait()?;
    ensure!(status.success(), "the server ended with {status}");
    Ok(())
}
