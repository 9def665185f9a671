//! The agent's settings: flag, then environment, then file, then default.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use farol_protocol::Language;
use serde::Deserialize;
use tracing::level_filters::LevelFilter;

use crate::{Error, yaml};

/// Where the state lives unless told otherwise.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/farol-agent";
/// The host's policy unless told otherwise.
pub const DEFAULT_POLICY: &str = "/etc/farol-agent/policy.yaml";
/// The container engine's socket unless told otherwise.
pub const DEFAULT_DOCKER_SOCKET: &str = "/var/run/docker.sock";
/// Read when it exists and no other file is named.
pub const DEFAULT_CONFIG: &str = "/etc/farol-agent/agent.yaml";

/// How often the host's inventory is taken unless told otherwise.
pub const DEFAULT_INVENTORY_INTERVAL: Duration = Duration::from_secs(300);

const MIN_SPOOL_BYTES: u64 = 1 << 20;

/// Settings of a running agent.
#[derive(Debug, Clone)]
pub struct Config {
    /// Identity, journal and spool.
    pub state_dir: PathBuf,
    /// The host's policy.
    pub policy: PathBuf,
    /// From one metrics batch to the next.
    pub interval: Duration,
    /// From one look at what the host is made of to the next; none: never.
    pub inventory_interval: Option<Duration>,
    /// Longest pause between two attempts to connect.
    pub reconnect_max: Duration,
    /// Bound of the spool's content.
    pub spool_max_bytes: u64,
    /// Batches of a backlog that leave in a second, beside the live ones.
    pub backfill_per_second: u32,
    /// Language of reports; the coordinator's when absent.
    pub language: Option<Language>,
    /// The container engine's socket.
    pub docker_socket: PathBuf,
    /// What is logged.
    pub log_level: LevelFilter,
    /// Deliver one batch and end.
    pub once: bool,
}

impl Config {
    /// The defaults on a given state folder.
    #[must_use]
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self {
            state_dir: state_dir.into(),
            policy: DEFAULT_POLICY.into(),
            interval: Duration::from_secs(30),
            inventory_interval: Some(DEFAULT_INVENTORY_INTERVAL),
            reconnect_max: Duration::from_secs(60),
            spool_max_bytes: 64 << 20,
            backfill_per_second: 50,
            language: None,
            docker_socket: DEFAULT_DOCKER_SOCKET.into(),
            log_level: LevelFilter::INFO,
            once: false,
        }
    }

    /// Puts the file and then the flags and environment over the defaults.
    ///
    /// # Errors
    /// The file cannot be read or has a mistake, or a value is out of bounds.
    pub fn load(state_dir: &Path, file: Option<&Path>, given: Settings) -> Result<Self, Error> {
        let from_file = match file {
            Some(path) => Settings::read(path)?.ok_or_else(|| missing(path))?,
            None => Settings::read(Path::new(DEFAULT_CONFIG))?.unwrap_or_default(),
        };
        let mut config = Self::new(state_dir);
        config.put(from_file, &|key| format!("`{key}` in the configuration file"))?;
        config.put(given, &|key| format!("--{}", key.replace('_', "-")))?;
        Ok(config)
    }

    fn put(&mut self, settings: Settings, name: &dyn Fn(&str) -> String) -> Result<(), Error> {
        if let Some(text) = settings.interval {
            self.interval = duration(&text).map_err(|why| Error::Usage(format!("{} {why}", name("interval"))))?;
        }
        if let Some(text) = settings.inventory_interval {
            self.inventory_interval = match text.as_str() {
                "off" => None,
                text => Some(
                    duration(text)
                        .map_err(|why| Error::Usage(format!("{} {why}, or `off`", name("inventory_interval"))))?,
                ),
            };
        }
        if let Some(text) = settings.reconnect_max {
            self.reconnect_max =
                duration(&text).map_err(|why| Error::Usage(format!("{} {why}", name("reconnect_max"))))?;
        }
        if let Some(bytes) = settings.spool_max_bytes {
            if bytes < MIN_SPOOL_BYTES {
                return Err(Error::Usage(format!(
                    "{} is {bytes}; use at least {MIN_SPOOL_BYTES} bytes",
                    name("spool_max_bytes")
                )));
            }
            self.spool_max_bytes = bytes;
        }
        if let Some(rate) = settings.backfill_per_second {
            if !(1..=1000).contains(&rate) {
                return Err(Error::Usage(format!("{} is {rate}; use 1 to 1000", name("backfill_per_second"))));
            }
            self.backfill_per_second = rate;
        }
        if let Some(text) = settings.log_level {
            self.log_level = text.parse().map_err(|_| {
                Error::Usage(format!("{} is `{text}`; use off, error, warn, info, debug or trace", name("log_level")))
            })?;
        }
        if let Some(text) = settings.docker_socket {
            let path = Path::new(text.strip_prefix("unix://").unwrap_or(&text));
            if !path.is_absolute() {
                return Err(Error::Usage(format!(
                    "{} is `{text}`; write the absolute path of a socket, such as {DEFAULT_DOCKER_SOCKET}",
                    name("docker_socket")
                )));
            }
            self.docker_socket = path.to_owned();
        }
        self.language = settings.language.or(self.language);
        Ok(())
    }
}

fn missing(path: &Path) -> Error {
    Error::Usage(format!("the configuration file {} does not exist; check --config", path.display()))
}

fn duration(text: &str) -> Result<Duration, String> {
    let value =
        humantime::parse_duration(text).map_err(|_| format!("is `{text}`; write a duration such as 30s or 5m"))?;
    if (Duration::from_millis(100)..=Duration::from_secs(3600)).contains(&value) {
        Ok(value)
    } else {
        Err(format!("is `{text}`; use 100ms to 1h"))
    }
}

/// Settings as one source gives them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// See [`Config::interval`], as `30s`.
    #[serde(default)]
    pub interval: Option<String>,
    /// See [`Config::inventory_interval`], as `5m`, or `off`.
    #[serde(default)]
    pub inventory_interval: Option<String>,
    /// See [`Config::reconnect_max`].
    #[serde(default)]
    pub reconnect_max: Option<String>,
    /// See [`Config::spool_max_bytes`].
    #[serde(default)]
    pub spool_max_bytes: Option<u64>,
    /// See [`Config::backfill_per_second`].
    #[serde(default)]
    pub backfill_per_second: Option<u32>,
    /// See [`Config::language`].
    #[serde(default)]
    pub language: Option<Language>,
    /// See [`Config::docker_socket`], with or without `unix://`.
    #[serde(default)]
    pub docker_socket: Option<String>,
    /// See [`Config::log_level`].
    #[serde(default)]
    pub log_level: Option<String>,
}

impl Settings {
    fn read(path: &Path) -> Result<Option<Self>, Error> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Io { operation: "read", path: path.to_owned(), source }),
        };
        let content = |line: &str| !line.trim_start().is_empty() && !line.trim_start().starts_with('#');
        if !text.lines().any(content) {
            return Ok(Some(Self::default()));
        }
        yaml::parse(path, &text).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, given: Settings) -> Result<Config, Error> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("agent.yaml");
        fs::write(&file, text).expect("writable");
        Config::load(Path::new("/state"), Some(&file), given)
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let config = load("interval: 10s\nlanguage: en\n", Settings::default()).expect("valid");
        assert_eq!((config.interval, config.language), (Duration::from_secs(10), Some(Language::En)));
        assert_eq!(config.spool_max_bytes, 64 << 20);

        let given = Settings { interval: Some("1m".to_owned()), ..Settings::default() };
        assert_eq!(load("interval: 10s\n", given).expect("valid").interval, Duration::from_secs(60));
        assert!(load("# nothing yet\n", Settings::default()).is_ok());
        let every = |text| load(text, Settings::default()).expect("valid").inventory_interval;
        assert_eq!(every(""), Some(DEFAULT_INVENTORY_INTERVAL));
        assert_eq!(every("inventory_interval: 1m\n"), Some(Duration::from_secs(60)));
        assert_eq!(every("inventory_interval: \"off\"\n"), None);
    }

    #[test]
    fn a_misspelt_key_is_named_with_its_place_and_the_nearest_key() {
        let error = load("language: en\nintervall: 10s\n", Settings::default()).expect_err("refused");
        assert_eq!(error.exit_code(), 2);
        let sentence = error.sentence();
        assert!(
            sentence.contains("agent.yaml:2:1: `intervall` is not a known key; did you mean `interval`?"),
            "{sentence}"
        );
    }

    #[test]
    fn values_out_of_bounds_are_refused_with_what_to_write() {
        for (text, part) in [
            ("interval: 10ms\n", "use 100ms to 1h"),
            ("interval: often\n", "such as 30s"),
            ("inventory_interval: never\n", "or `off`"),
            ("spool_max_bytes: 10\n", "at least"),
            ("backfill_per_second: 0\n", "use 1 to 1000"),
            ("docker_socket: tcp://10.0.0.1:2375\n", "absolute path of a socket"),
            ("log_level: loud\n", "error, warn"),
            ("language: de\n", "agent.yaml:1:11"),
        ] {
            let error = load(text, Settings::default()).expect_err("refused");
            assert_eq!(error.exit_code(), 2);
            assert!(error.sentence().contains(part), "{text:?}: {}", error.sentence());
        }
    }
}
