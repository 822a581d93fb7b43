//! `strait compile POLICY`.

use std::process::ExitCode;

use anyhow::anyhow;
use strait_abi::Arch;
use strait_bpf::{Decision, Program};
use strait_compiler::{Compiled, Level, Options, compile};
use strait_policy::{Policy, Rules};

use crate::args::{Compile, ProgramFormat};
use crate::documents;
use crate::failure::Failure;
use crate::input;
use crate::output;

/// Compiles a policy and writes the proved program.
pub fn run(args: &Compile) -> Result<ExitCode, Failure> {
    let (policy, mut rules) = documents::policy(&args.policy, &args.profile)?;
    if let Some(arch) = args.profile.arch {
        rules = only(&policy, &rules, arch)?;
    }
    let level = if args.size { Level::Size } else { Level::Speed };
    let Compiled { program, .. } = compile(&rules, &Options { level, ..Options::default() })
        .map_err(|error| {
            let name = input::name(&args.policy);
            Failure::bad_input(anyhow::Error::new(error).context(name))
        })?;
    let bytes = match args.format {
        ProgramFormat::Bpf => program.to_bytes(),
        ProgramFormat::C => program.to_c("filter").into_bytes(),
        ProgramFormat::Rust => program.to_rust("FILTER").into_bytes(),
        ProgramFormat::Pfc => pfc(&program)?.into_bytes(),
        ProgramFormat::Json => json(&program).into_bytes(),
    };
    output::write(args.output.as_deref(), &bytes).map_err(Failure::refused)?;
    Ok(ExitCode::SUCCESS)
}

/// The rules of one arch of the policy; to the program every other is foreign.
fn only(policy: &Policy, rules: &Rules, arch: Arch) -> Result<Rules, Failure> {
    match rules.table(arch.audit_arch()) {
        Some(table) if policy.architectures.contains(arch) => {
            Ok(Rules::new(rules.foreign()).with_table(arch.audit_arch(), table.clone()))
        }
        _ => {
            let has: Vec<&str> = policy.architectures.iter().map(Arch::name).collect();
            let has = has.join(", ");
            Err(Failure::bad_input(anyhow!("the policy is not for {arch}, only for {has}")))
        }
    }
}

fn pfc(program: &Program) -> Result<String, Failure> {
    Decision::of(program).and_then(|decision| decision.to_pfc()).map_err(Failure::bad_input)
}

/// The instructions as JSON: the form in which bpf(2) programs are often exchanged.
fn json(program: &Program) -> String {
    let instructions: Vec<_> = program
        .insns()
        .iter()
        .map(|insn| {
            serde_json::json!({"code": insn.code, "jt": insn.jt, "jf": insn.jf, "k": insn.k})
        })
        .collect();
    format!("{}\n", serde_json::Value::Array(instructions))
}
