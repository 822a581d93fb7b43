//! `strait explain-code [CODE]`.

use std::process::ExitCode;

use serde_json::{Value, json};
use strait_policy::check::Code;

use crate::args::ExplainCode;
use crate::failure::Failure;
use crate::output;

/// Prints the page of a code, or the list of all.
pub fn run(args: &ExplainCode) -> Result<ExitCode, Failure> {
    let text = match (args.code, args.json) {
        (Some(code), false) => page(code),
        (None, false) => Code::ALL.iter().map(|code| line(*code)).collect(),
        (Some(code), true) => format!("{:#}\n", data(code)),
        (None, true) => {
            format!("{:#}\n", Code::ALL.iter().map(|code| data(*code)).collect::<Value>())
        }
    };
    output::print(text.as_bytes()).map_err(Failure::refused)?;
    Ok(ExitCode::SUCCESS)
}

fn line(code: Code) -> String {
    format!("{code}  {:<8} {}\n", code.severity(), code.title())
}

fn page(code: Code) -> String {
    format!("{code}: {} ({})\n\n{}\n", code.title(), code.severity(), wrapped(code.page()))
}

fn data(code: Code) -> Value {
    json!({
        "code": code.name(),
        "severity": code.severity().name(),
        "title": code.title(),
        "page": code.page(),
    })
}

/// A text in lines that are not too long to read.
fn wrapped(text: &str) -> String {
    const WIDTH: usize = 80;
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last().map_or(0, |line| line.chars().count());
        if last > 0 && last + 1 + word.chars().count() > WIDTH {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join("\n")
}
