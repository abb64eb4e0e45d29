//! What a line that was typed asks for.

/// How many messages `/history` shows.
const HISTORY: usize = 20;

/// All commands, with their arguments and what they do.
pub(crate) const COMMANDS: [(&str, &str, &str); 16] = [
    ("/rooms", "", "list your rooms, the newest first"),
    ("/room", "NAME", "go to a room"),
    ("/create", "NAME", "make a room and go there"),
    ("/direct", "USER", "go to the room of you and a user"),
    ("/join", "ID", "become a member of an open room and go there"),
    ("/leave", "", "leave the room"),
    ("/invite", "USER", "make a user a member of the room"),
    ("/kick", "USER", "remove a member"),
    ("/members", "", "list who is in the room, and who is online"),
    ("/history", "[N]", "show N messages from before what is shown"),
    ("/edit", "SEQ TEXT", "change a message"),
    ("/delete", "SEQ", "delete a message"),
    ("/react", "SEQ EMOJI", "react to a message"),
    ("/mute", "on|off", "have nothing of the room pushed to you, or again as before"),
    ("/help", "", "show this"),
    ("/quit", "", "end, as Ctrl-D does"),
];

/// What is asked for. Each command is explained in [`COMMANDS`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ChatCommand {
    /// Send a message to the current room.
    Say(String),
    Rooms,
    Room(String),
    Create(String),
    Direct(String),
    Join(String),
    Leave,
    Invite(String),
    Kick(String),
    Members,
    History(usize),
    Edit(u64, String),
    Delete(u64),
    React(u64, String),
    Mute(bool),
    Help,
    Quit,
}

/// The reason why a line asks for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CommandError {
    /// There is no such command.
    #[error("there is no command {0}; /help lists them, and // begins a message that begins with /")]
    Unknown(String),
    /// The arguments are not those of the command.
    #[error("it is {0} {1}")]
    Arguments(&'static str, &'static str),
}

/// Reads a line. Returns `None` if it is empty.
pub(crate) fn parse(line: &str) -> Result<Option<ChatCommand>, CommandError> {
    let line = line.trim();
    if line.is_empty() {
        return Ok(None);
    }
    if !line.starts_with('/') || line.starts_with("//") {
        let text = line.strip_prefix('/').filter(|_| line.starts_with("//")).unwrap_or(line);
        return Ok(Some(ChatCommand::Say(text.to_owned())));
    }
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let Some((name, arguments, _)) = COMMANDS.into_iter().find(|(known, ..)| *known == name) else {
        return Err(CommandError::Unknown(name.to_owned()));
    };
    let command = read(name, rest.trim()).ok_or(CommandError::Arguments(name, arguments))?;
    Ok(Some(command))
}

fn read(name: &str, rest: &str) -> Option<ChatCommand> {
    let text = || (!rest.is_empty()).then(|| rest.to_owned());
    let nothing = |command| rest.is_empty().then_some(command);
    let seq_and_text = || {
        let (seq, text) = rest.split_once(char::is_whitespace)?;
        Some((seq.parse().ok()?, text.trim().to_owned()))
    };
    match name {
        "/rooms" => nothing(ChatCommand::Rooms),
        "/room" => text().map(ChatCommand::Room),
        "/create" => text().map(ChatCommand::Create),
        "/direct" => text().map(ChatCommand::Direct),
        "/join" => text().map(ChatCommand::Join),
        "/leave" => nothing(ChatCommand::Leave),
        "/invite" => text().map(ChatCommand::Invite),
        "/kick" => text().map(ChatCommand::Kick),
        "/members" => nothing(ChatCommand::Members),
        "/history" if rest.is_empty() => Some(ChatCommand::History(HISTORY)),
        "/history" => rest.parse().ok().map(ChatCommand::History),
        "/edit" => seq_and_text().map(|(seq, text)| ChatCommand::Edit(seq, text)),
        "/delete" => rest.parse().ok().map(ChatCommand::Delete),
        "/react" => seq_and_text().map(|(seq, emoji)| ChatCommand::React(seq, emoji)),
        "/mute" if rest == "on" || rest == "off" => Some(ChatCommand::Mute(rest == "on")),
        "/help" => nothing(ChatCommand::Help),
        "/quit" => nothing(ChatCommand::Quit),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_message_or_a_command_and_a_mistake_is_explained() {
        let say = |text: &str| Ok(Some(ChatCommand::Say(text.to_owned())));
        assert_eq!(parse("  "), Ok(None));
        assert_eq!(parse("hello /room"), say("hello /room"));
        assert_eq!(parse("//room"), say("/room"));
        assert_eq!(parse("/room a room "), Ok(Some(ChatCommand::Room("a room".to_owned()))));
        assert_eq!(parse("/edit 7  no  mistake"), Ok(Some(ChatCommand::Edit(7, "no  mistake".to_owned()))));
        assert_eq!(parse("/history"), Ok(Some(ChatCommand::History(HISTORY))));
        assert_eq!(parse("/what"), Err(CommandError::Unknown("/what".to_owned())));
        for line in ["/room", "/edit x y", "/edit 7", "/delete", "/mute", "/leave now", "/history x"] {
            assert!(matches!(parse(line), Err(CommandError::Arguments(..))), "{line}");
        }
        for (name, arguments, _) in COMMANDS {
            let example = arguments.replace("SEQ", "1").replace("[N]", "").replace("on|off", "on");
            assert!(matches!(parse(&format!("{name} {example}")), Ok(Some(_))), "{name}");
        }
    }
}
