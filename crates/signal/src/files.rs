//! Every connection is an open file, and a shell lets a program have 1,024 of them. It may ask for more, up to a bound that only the system's
//! administrator moves; so a server that was started by hand holds as many clients as one that was started by a unit.

/// Asks for as many open files as this process may have, and says when that is fewer than the connections that are allowed.
#[cfg(unix)]
pub(crate) fn allow_many(max_connections: usize) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    use tracing::info;

    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // A system that refuses its own bound (macOS has another one besides) leaves what there was.
    let raised = current == maximum || setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
    let files = if raised { maximum } else { current };
    if let Some(files) = files.filter(|files| usize::try_from(*files).is_ok_and(|files| files <= max_connections)) {
        info!(files, max_connections, "the system allows fewer open files than connections are allowed");
    }
}

/// There is no such bound.
#[cfg(not(unix))]
pub(crate) fn allow_many(_: usize) {}
