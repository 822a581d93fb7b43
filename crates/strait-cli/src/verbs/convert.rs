//! `strait convert IN --to FORMAT`.

use std::process::ExitCode;

use anyhow::anyhow;
use serde_json::json;
use strait_compiler::{Compiled, Options, compile};
use strait_policy::format::{self, Exported, Format, FormatError};

use crate::args::Convert;
use crate::documents::{self, Document};
use crate::failure::{Failure, UNFULFILLED};
use crate::{input, output, witness};

/// Writes a policy in another format; what that cannot express is listed, and nothing is written
/// of it unless that was asked for.
pub fn run(args: &Convert) -> Result<ExitCode, Failure> {
    let Document { policy, format: from, .. } = documents::document(&args.input, &args.profile)?;
    let name = input::name(&args.input);
    let (bytes, losses, demands, notes) = if args.to == Format::Bpf {
        // A program can say whatever a policy says, and is proved to.
        let rules = policy.lower().map_err(|error| failure(&name, error))?;
        let Compiled { program, .. } =
            compile(&rules, &Options::default()).map_err(|error| failure(&name, error))?;
        (program.to_bytes(), Vec::new(), format::demands(&policy), Vec::new())
    } else {
        let target = documents::target(&args.profile)?;
        let exported = args.to.export(&policy, &target).map_err(|error| match error {
            error @ FormatError::Inexpressible { .. } => {
                Failure::with_status(UNFULFILLED, anyhow!(error).context(name.clone()))
            }
            error => failure(&name, error),
        })?;
        let Exported { text, losses, demands, notes } = exported;
        (text.into_bytes(), losses, demands, notes)
    };
    let written = losses.is_empty() && demands.is_empty() || args.lossy;
    if written {
        output::write(args.output.as_deref(), &bytes).map_err(Failure::refused)?;
    }
    if args.json {
        let losses: Vec<_> = losses.iter().map(witness::json).collect();
        let report = json!({
            "from": from.name(),
            "to": args.to.name(),
            "written": written,
            "losses": losses,
            "demands": demands,
            "notes": notes,
        });
        output::print(format!("{report:#}\n").as_bytes()).map_err(Failure::refused)?;
    } else {
        for note in demands.iter().chain(&notes) {
            output::say(&format!("strait: {name}: {note}"));
        }
        for loss in &losses {
            output::say(&format!(
                "strait: {name}: {}",
                witness::text(loss, "policy", args.to.name())
            ));
        }
    }
    if written {
        return Ok(ExitCode::SUCCESS);
    }
    let to = args.to;
    output::say(&format!(
        "strait: {name}: {to} cannot express this: nothing was written (--lossy writes it)"
    ));
    Ok(ExitCode::from(UNFULFILLED))
}

fn failure(name: &str, error: impl Into<anyhow::Error>) -> Failure {
    Failure::bad_input(error.into().context(name.to_owned()))
}
