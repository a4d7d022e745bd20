//! A certificate that was renewed is taken up without a restart: at SIGHUP, and by a look at the files from time to time, so that whoever
//! renews it need not know of this server. Without a certificate SIGHUP does nothing.

use std::{io, time::Duration};

use rtc_battery_signal::Tls;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tracing::{info, warn};

/// Keeps what is shown up to date for as long as the program runs. From here on SIGHUP no longer kills the process.
pub(crate) fn start(tls: Option<Tls>, every: Duration) -> io::Result<()> {
    let mut hangup = Hangup::new()?;
    // The files have just been read.
    let mut look = interval_at(Instant::now() + every, every);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::spawn(async move {
        // What has been said of files that cannot be used, so that it is said once.
        let mut complaint = None;
        let Some(tls) = tls else {
            loop {
                hangup.told().await;
                info!("there is no certificate to be renewed");
            }
        };
        loop {
            tokio::select! {
                () = hangup.told() => complaint = None,
                _ = look.tick() => {}
            }
            match tls.renew() {
                Ok(renewed) => {
                    if renewed {
                        info!("the certificate has been renewed");
                    }
                    complaint = None;
                }
                Err(error) => {
                    let error = error.to_string();
                    if complaint.as_ref() != Some(&error) {
                        warn!(error, "the certificate cannot be renewed; the old one is kept");
                    }
                    complaint = Some(error);
                }
            }
        }
    });
    Ok(())
}

#[cfg(unix)]
struct Hangup(tokio::signal::unix::Signal);

#[cfg(unix)]
impl Hangup {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        signal(SignalKind::hangup()).map(Self)
    }

    async fn told(&mut self) {
        let _ = self.0.recv().await;
    }
}

/// There is no such signal.
#[cfg(not(unix))]
struct Hangup;

#[cfg(not(unix))]
impl Hangup {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn told(&mut self) {
        std::future::pending().await
    }
}
