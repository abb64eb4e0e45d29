//! A configuration file: the options of a command, written down. What the file says is the default of the option, so
//! the environment and the command line come first.

use std::path::{Path, PathBuf};

use clap::Command;
use toml::{Table, Value};

/// The reason why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigFileError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{path} is no TOML: {source}")]
    Toml {
        /// The file.
        path: PathBuf,
        /// What the parser reported.
        source: Box<toml::de::Error>,
    },
    /// There is no such setting.
    #[error("{path}: there is no setting {key}; each is an option of `sendpi {command}` without its dashes")]
    Unknown {
        /// The file.
        path: PathBuf,
        /// What the file calls it.
        key: String,
        /// The command.
        command: String,
    },
    /// The value is of a form that no setting has.
    #[error("{path}: {key} must be a text, a number, true or false, or a list of texts")]
    Form {
        /// The file.
        path: PathBuf,
        /// The setting.
        key: String,
    },
}

/// Gives the options of `command` the values in the file as defaults. They are checked as if they were on the command
/// line.
pub(crate) fn apply(mut command: Command, path: &Path) -> Result<Command, ConfigFileError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ConfigFileError::Read { path: path.to_owned(), source })?;
    let table: Table =
        text.parse().map_err(|source| ConfigFileError::Toml { path: path.to_owned(), source: Box::new(source) })?;
    for (key, value) in table {
        let of_file = |arg: &&clap::Arg| arg.get_long() == Some(&key) && key != "config";
        let id = command.get_arguments().find(of_file).map(|arg| arg.get_id().clone());
        let (path, name) = (path.to_owned(), command.get_name().to_owned());
        let id = id.ok_or_else(|| ConfigFileError::Unknown { path: path.clone(), key: key.clone(), command: name })?;
        let values = texts(value).ok_or(ConfigFileError::Form { path, key })?;
        command = command.mut_arg(id, |arg| arg.default_values(values));
    }
    Ok(command)
}

/// Returns a value as it would be on a command line.
fn texts(value: Value) -> Option<Vec<String>> {
    Some(match value {
        Value::String(text) => vec![text],
        Value::Integer(number) => vec![number.to_string()],
        Value::Boolean(is_set) => vec![is_set.to_string()],
        Value::Array(values) => {
            let texts = values.into_iter().map(|value| value.as_str().map(str::to_owned));
            texts.collect::<Option<Vec<_>>>()?
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use clap::{Arg, ArgAction};

    use super::*;

    fn command() -> Command {
        Command::new("serve")
            .arg(Arg::new("heartbeat").long("heartbeat").default_value("25s"))
            .arg(Arg::new("nats_servers").long("nats").action(ArgAction::Append))
            .arg(Arg::new("page").long("page").action(ArgAction::SetTrue))
    }

    fn applied(text: &str) -> Result<Command, ConfigFileError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sendpi.toml");
        std::fs::write(&path, text).unwrap();
        apply(command(), &path)
    }

    #[test]
    fn the_command_line_comes_before_the_file_and_the_file_before_the_default() {
        let file = "heartbeat = \"9s\"\nnats = [\"a\", \"b\"]\npage = true";
        let matches = applied(file).unwrap().get_matches_from(["serve"]);
        assert_eq!(matches.get_one::<String>("heartbeat").unwrap(), "9s");
        assert_eq!(matches.get_many::<String>("nats_servers").unwrap().collect::<Vec<_>>(), ["a", "b"]);
        assert!(matches.get_flag("page"));
        let matches = applied(file).unwrap().get_matches_from(["serve", "--heartbeat", "1s", "--nats", "c"]);
        assert_eq!(matches.get_one::<String>("heartbeat").unwrap(), "1s");
        assert_eq!(matches.get_many::<String>("nats_servers").unwrap().collect::<Vec<_>>(), ["c"]);
    }

    #[test]
    fn what_is_no_setting_is_named() {
        for key in ["heart_beat", "config", "help"] {
            let error = applied(&format!("{key} = 1")).unwrap_err().to_string();
            assert!(error.contains(&format!("no setting {key}")), "{error}");
        }
        let error = applied("heartbeat = { s = 9 }").unwrap_err().to_string();
        assert!(error.contains("heartbeat must be a text"), "{error}");
        assert!(applied("heartbeat = ").unwrap_err().to_string().contains("is no TOML"));
    }
}
