//! How policies spell actions: `allow`, `errno(EPERM)`, `kill-process`.

use strait_bpf::Action;

use crate::errno::{errno_name, errno_names, errno_number};
use crate::text::{Problem, nearest};

/// What can stand before the parenthesis.
const WORDS: &[&str] =
    &["allow", "log", "errno", "trap", "trace", "notify", "kill-thread", "kill-process"];

/// The spelling of an action in a policy; errnos by name where they have one.
pub fn action_text(action: Action) -> String {
    match action {
        Action::Errno(errno) => match errno_name(errno) {
            Some(name) => format!("errno({name})"),
            None => format!("errno({errno})"),
        },
        _ => action.to_string(),
    }
}

/// The action that a policy's text spells.
pub(crate) fn parse_action(text: &str) -> Result<Action, Problem> {
    let (word, data) = match text.strip_suffix(')').and_then(|text| text.split_once('(')) {
        Some((word, data)) => (word.trim_end(), Some(data.trim())),
        None => (text, None),
    };
    let number = |what: &'static str, data: &str| {
        data.parse::<u16>().map_err(|_| Problem::Invalid {
            what,
            value: data.to_owned(),
            right: "give a number from 0 to 65535".to_owned(),
        })
    };
    match (word, data) {
        ("allow", None) => Ok(Action::Allow),
        ("log", None) => Ok(Action::Log),
        ("notify", None) => Ok(Action::Notify),
        ("kill-thread", None) => Ok(Action::KillThread),
        ("kill-process", None) => Ok(Action::KillProcess),
        ("errno", Some(data)) => errno(data).map(Action::Errno),
        ("trap", Some(data)) => number("trap value", data).map(Action::Trap),
        ("trace", Some(data)) => number("trace value", data).map(Action::Trace),
        ("errno", None) => Err(wrong_form(text, "write `errno(NAME)`, such as `errno(EPERM)`")),
        ("trap" | "trace", None) => {
            Err(wrong_form(text, &format!("write `{word}(N)`, such as `{word}(0)`")))
        }
        (word, Some(_)) if WORDS.contains(&word) => {
            Err(wrong_form(text, &format!("write `{word}` alone: it takes no value")))
        }
        (word, _) => Err(Problem::UnknownName {
            what: "action",
            name: text.to_owned(),
            nearest: nearest(word, WORDS.iter().copied()).map(|near| match near.as_str() {
                "errno" => "errno(EPERM)".to_owned(),
                "trap" | "trace" => format!("{near}(0)"),
                _ => near,
            }),
            known: Vec::new(),
        }),
    }
}

/// An errno by name, or as a number that the kernel passes on.
fn errno(text: &str) -> Result<u16, Problem> {
    if let Ok(number) = text.parse::<u16>() {
        if number <= Action::MAX_ERRNO {
            return Ok(number);
        }
        return Err(Problem::Invalid {
            what: "errno",
            value: text.to_owned(),
            right: format!("the kernel passes on 0 to {}", Action::MAX_ERRNO),
        });
    }
    errno_number(text).ok_or_else(|| Problem::unknown_name("errno", text, errno_names()))
}

fn wrong_form(text: &str, right: &str) -> Problem {
    Problem::Invalid { what: "action", value: text.to_owned(), right: right.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_reads_back() {
        for action in [
            Action::Allow,
            Action::Log,
            Action::Notify,
            Action::KillThread,
            Action::KillProcess,
            Action::Trap(0),
            Action::Trap(u16::MAX),
            Action::Trace(7),
            Action::Errno(0),
            Action::Errno(1),
            Action::Errno(41),
            Action::Errno(4095),
        ] {
            assert_eq!(parse_action(&action_text(action)), Ok(action));
        }
        assert_eq!(action_text(Action::Errno(38)), "errno(ENOSYS)");
    }

    #[test]
    fn a_wrong_action_is_told_what_would_be_right() {
        let message = |text: &str| parse_action(text).unwrap_err().to_string();
        assert!(message("alow").contains("did you mean `allow`?"));
        assert!(message("errno").contains("errno(EPERM)"));
        assert!(message("errno(EPREM)").contains("did you mean `EPERM`?"));
        assert!(message("errno(4096)").contains("4095"));
        assert!(message("trap(70000)").contains("65535"));
        assert!(message("allow(1)").contains("takes no value"));
        assert!(message("SCMP_ACT_ALLOW").contains("no known action"));
        assert!(message("kill").contains("no known action"));
    }
}
