//! `strait disasm F`.

use std::fmt::Write as _;
use std::process::ExitCode;

use strait_abi::Arch;
use strait_bpf::{ByteOrder, Program, Token};

use crate::args::Disasm;
use crate::documents;
use crate::failure::Failure;
use crate::output;

/// Prints the instructions of a program file.
pub fn run(args: &Disasm) -> Result<ExitCode, Failure> {
    let program = documents::program(&args.program)?;
    let order = match program.byte_order() {
        ByteOrder::Little => "",
        ByteOrder::Big => "; a big-endian program\n",
    };
    output::print_styled(&format!("{order}{}", listing(&program))).map_err(Failure::refused)?;
    Ok(ExitCode::SUCCESS)
}

/// The instructions with names.
pub fn plain(program: &Program) -> String {
    program.listing(Arch::NATIVE.map(Arch::audit_arch)).to_string()
}

/// The instructions with names, coloured for a terminal.
pub fn listing(program: &Program) -> String {
    use anstyle::{AnsiColor, Style};
    let colour = |colour: AnsiColor| Style::new().fg_color(Some(colour.into()));
    let mut text = String::new();
    for line in program.listing(Arch::NATIVE.map(Arch::audit_arch)).lines() {
        for (token, piece) in line.tokens() {
            let style = match token {
                Token::Label => colour(AnsiColor::Cyan),
                Token::Mnemonic => Style::new().bold(),
                Token::Constant => colour(AnsiColor::Yellow),
                Token::Action(action) if action.lets_pass() => colour(AnsiColor::Green),
                Token::Action(_) => colour(AnsiColor::Red),
                Token::Comment => Style::new().dimmed(),
                _ => Style::new(),
            };
            // Writing to a string does not fail.
            let _ = write!(text, "{style}{piece}{style:#}");
        }
        text.push('\n');
    }
    text
}
