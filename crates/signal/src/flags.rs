//! The flags, and what they make of the configuration. Each has an environment variable: `SIGNAL_` and its name.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, ValueEnum};
use rtc_battery_signal::{Cluster, Config, Limits, Origins, Tls, Turn};
use tracing::level_filters::LevelFilter;

/// Introduces RTC Battery peers to each other: WebSocket at /signal?token=..., health at /healthz, metrics at /metrics.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Flags {
    /// Where to listen; port 0 takes a free one. The address is printed once it is open.
    #[arg(long, env = "SIGNAL_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub(crate) listen: String,
    /// Also serve this folder, such as the demo, at /.
    #[arg(long = "static", env = "SIGNAL_STATIC", value_name = "DIR")]
    static_dir: Option<PathBuf>,
    /// How much to log on standard error: off, error, warn, info, debug or trace.
    #[arg(long, env = "SIGNAL_LOG", value_name = "LEVEL", default_value = "info")]
    pub(crate) log: LevelFilter,
    /// How a line of the log looks.
    #[arg(long, env = "SIGNAL_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
    /// Certificate and chain (PEM), to serve https: and wss: without a proxy.
    #[arg(long, env = "SIGNAL_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM).
    #[arg(long, env = "SIGNAL_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// How often to look whether the certificate has been renewed; SIGHUP makes it look at once.
    #[arg(long, env = "SIGNAL_TLS_CHECK", value_name = "SECONDS", default_value = "60", value_parser = repeated)]
    pub(crate) tls_check: Duration,
    /// A site whose pages may connect, such as https://example.com; may be given again, or with commas. Default: all sites.
    #[arg(long, env = "SIGNAL_ALLOWED_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    allowed_origin: Vec<String>,
    /// The header in which the proxy in front of this server says who the client is, such as X-Forwarded-For; its last address counts.
    #[arg(long, env = "SIGNAL_ADDRESS_HEADER", value_name = "HEADER")]
    address_header: Option<String>,
    /// Share rooms with other processes through this Redis server, such as redis://127.0.0.1:6379.
    #[arg(long, env = "SIGNAL_REDIS", value_name = "URL", hide_env_values = true)]
    redis: Option<String>,
    /// The authority that signed the Redis server's certificate (PEM), with rediss://. Default: those that the system trusts.
    #[arg(long, env = "SIGNAL_REDIS_CA", value_name = "FILE", requires = "redis")]
    redis_ca: Option<PathBuf>,
    /// Seconds after which a process that says nothing is dead to the others.
    #[arg(long, env = "SIGNAL_REDIS_LEASE", value_name = "SECONDS", default_value = "15", value_parser = repeated)]
    redis_lease: Duration,
    /// Give out credentials for this TURN server at /ice; may be given again, or with commas.
    #[arg(long, env = "SIGNAL_TURN_URL", value_name = "URL", value_delimiter = ',', requires = "turn_secret")]
    turn_url: Vec<String>,
    /// The secret shared with the TURN server: coturn's static-auth-secret. Better in the environment than on the command line.
    #[arg(long, env = "SIGNAL_TURN_SECRET", value_name = "SECRET", requires = "turn_url", hide_env_values = true)]
    turn_secret: Option<String>,
    /// Seconds for which TURN credentials are good.
    #[arg(long, env = "SIGNAL_TURN_TTL", value_name = "SECONDS", default_value = "43200", value_parser = seconds)]
    turn_ttl: Duration,
    /// Seconds over which the farewells are spread when the server stops.
    #[arg(long, env = "SIGNAL_DRAIN", value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    drain: Duration,
    #[command(flatten)]
    bounds: Bounds,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

macro_rules! bounds {
    ($($(#[doc = $doc:literal])+ $field:ident $env:literal $unit:literal: $kind:ty = $default:literal $parser:expr;)+) => {
        /// What clients may make the server hold or wait for.
        #[derive(Debug, Args)]
        #[command(next_help_heading = "Bounds")]
        struct Bounds {
            $($(#[doc = $doc])+
            #[arg(long, env = $env, value_name = $unit, default_value = $default, value_parser = $parser)]
            $field: $kind,)+
        }

        impl From<Bounds> for Limits {
            fn from(bounds: Bounds) -> Self {
                Self { $($field: bounds.$field),+ }
            }
        }
    };
}

bounds! {
    /// Longest message from a client.
    max_message_bytes "SIGNAL_MAX_MESSAGE_BYTES" "BYTES": usize = "65536" clap::value_parser!(usize);
    /// Messages a second from one client; one that sends more is read no faster.
    messages_per_second "SIGNAL_MESSAGES_PER_SECOND" "N": u32 = "50" clap::value_parser!(u32).range(1..);
    /// Messages that a client that was silent may send at once.
    message_burst "SIGNAL_MESSAGE_BURST" "N": u32 = "600" clap::value_parser!(u32).range(1..);
    /// Longest token.
    max_token_bytes "SIGNAL_MAX_TOKEN_BYTES" "BYTES": usize = "16384" clap::value_parser!(usize);
    /// Peers in a room.
    max_room_peers "SIGNAL_MAX_ROOM_PEERS" "N": usize = "1000" clap::value_parser!(usize);
    /// Peers told to a newcomer that asks for a sample.
    sample_peers "SIGNAL_SAMPLE_PEERS" "N": usize = "30" clap::value_parser!(usize);
    /// Connections at a time.
    max_connections "SIGNAL_MAX_CONNECTIONS" "N": usize = "50000" clap::value_parser!(usize);
    /// Connections at a time from one address (of IPv6: from one /64).
    max_connections_per_address "SIGNAL_MAX_CONNECTIONS_PER_ADDRESS" "N": usize = "1000" clap::value_parser!(usize);
    /// Messages that may wait for one client for longer than the grace.
    max_queue_messages "SIGNAL_MAX_QUEUE_MESSAGES" "N": usize = "64" clap::value_parser!(usize);
    /// How long more messages than that may wait before the client is closed with 1013.
    queue_grace "SIGNAL_QUEUE_GRACE" "SECONDS": Duration = "5" seconds;
    /// What the system may buffer for a connection, in each direction.
    socket_buffer_bytes "SIGNAL_SOCKET_BUFFER_BYTES" "BYTES": usize = "32768" clap::value_parser!(usize);
    /// How long a client may take for its TLS handshake, and for the head of a request.
    header_timeout "SIGNAL_HEADER_TIMEOUT" "SECONDS": Duration = "10" seconds;
    /// How long a client may take to join.
    join_timeout "SIGNAL_JOIN_TIMEOUT" "SECONDS": Duration = "5" seconds;
    /// How often clients are pinged.
    ping_interval "SIGNAL_PING_INTERVAL" "SECONDS": Duration = "25" repeated;
    /// A client that is silent for this long, pongs included, is dead.
    idle_timeout "SIGNAL_IDLE_TIMEOUT" "SECONDS": Duration = "60" seconds;
    /// How long a client may take to read its farewell.
    close_timeout "SIGNAL_CLOSE_TIMEOUT" "SECONDS": Duration = "5" seconds;
}

impl Flags {
    /// What the server is to do.
    pub(crate) fn config(self) -> Result<Config> {
        if let Some(folder) = &self.static_dir {
            ensure!(folder.is_dir(), "there is no folder {}", folder.display());
        }
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(certificates), Some(key)) => Some(Tls::read(certificates, key).context("cannot serve TLS")?),
            _ => None,
        };
        let read = |file: PathBuf| std::fs::read(&file).with_context(|| format!("--redis-ca {}", file.display()));
        let authority = self.redis_ca.map(read).transpose()?;
        let cluster = |url: String| Cluster::new(&url, authority.as_deref(), self.redis_lease);
        let cluster = self.redis.map(cluster).transpose().context("--redis")?;
        Ok(Config {
            static_dir: self.static_dir,
            limits: self.bounds.into(),
            tls,
            origins: Origins::new(self.allowed_origin).context("--allowed-origin")?,
            address_header: self.address_header,
            turn: self.turn_secret.map(|secret| Turn { urls: self.turn_url, secret, ttl: self.turn_ttl }),
            cluster,
            drain: self.drain,
        })
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds")?;
    Duration::try_from_secs_f64(seconds).ok().filter(|time| time.as_secs() < 1 << 31).ok_or("from 0 to 68 years".into())
}

/// What is done again and again, with some time between.
fn repeated(text: &str) -> Result<Duration, String> {
    seconds(text).and_then(|time| if time.as_millis() < 10 { Err("0.01 or more".into()) } else { Ok(time) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_flags_the_bounds_are_the_librarys() {
        let bounds: Limits = Flags::parse_from(["rtc-battery-signal"]).bounds.into();
        assert_eq!(format!("{bounds:?}"), format!("{:?}", Limits::default()));
    }

    #[test]
    fn what_the_flags_say_is_what_is_served() {
        let flags = "rtc-battery-signal --static / --allowed-origin https://a.example,https://b.example --address-header X-Forwarded-For \
                     --redis redis://127.0.0.1 --redis-lease 7 --turn-url turn:x,turns:y --turn-secret north --turn-ttl 60 --drain 1.5 \
                     --max-queue-messages 9 --idle-timeout 0.5";
        let config = Flags::parse_from(flags.split_whitespace()).config().unwrap();
        assert_eq!(config.static_dir, Some("/".into()));
        assert_eq!(format!("{:?}", config.origins), r#"Origins(["https://a.example", "https://b.example"])"#);
        assert_eq!(config.address_header.as_deref(), Some("X-Forwarded-For"));
        assert!(format!("{:?}", config.cluster).contains("lease: 7s"), "{:?}", config.cluster);
        let turn = config.turn.unwrap();
        assert_eq!(
            (turn.urls.join(" "), turn.secret.as_str(), turn.ttl.as_secs()),
            ("turn:x turns:y".into(), "north", 60)
        );
        assert_eq!(config.drain.as_millis(), 1_500);
        assert_eq!((config.limits.max_queue_messages, config.limits.idle_timeout.as_millis()), (9, 500));
    }
}
