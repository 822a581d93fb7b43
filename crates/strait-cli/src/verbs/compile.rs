//! `strait compile POLICY`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::anyhow;
use strait_abi::Arch;
use strait_bpf::{Decision, Insn, Program};
use strait_compiler::{CompileError, Effort, Level, Options, compile, compile_stack};
use strait_policy::{Policy, Rules};

use crate::args::{Compile, ProgramFormat};
use crate::documents;
use crate::failure::Failure;
use crate::input;
use crate::output;
use crate::progress::Progress;

/// Compiles a policy and writes the proved program, or programs.
pub fn run(args: &Compile) -> Result<ExitCode, Failure> {
    let (policy, mut rules) = documents::policy(&args.policy, &args.profile)?;
    if let Some(arch) = args.profile.arch {
        rules = only(&policy, &rules, arch)?;
    }
    let options = options(args)?;
    let progress = Progress::of("compiling and proving");
    let programs = match args.split {
        true => compile_stack(&rules, &options),
        false => compile(&rules, &options).map(|compiled| vec![compiled.program]),
    };
    drop(progress);
    let programs = programs.map_err(|error| failure(error, args))?;
    if let [program] = &programs[..] {
        let bytes = text(program, args.format, "")?;
        output::write(args.output.as_deref(), &bytes).map_err(Failure::refused)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(path) = args.output.as_deref().filter(|path| *path != Path::new("-")) else {
        let count = programs.len();
        return Err(Failure::bad_input(anyhow!(
            "the policy takes {count} programs, which standard output cannot hold apart: name a file \
             with -o, and they are written beside each other as FILE.1 to FILE.{count}"
        )));
    };
    for (number, program) in (1_usize..).zip(&programs) {
        let path = numbered(path, number);
        let bytes = text(program, args.format, &format!("_{number}"))?;
        output::write(Some(&path), &bytes).map_err(Failure::refused)?;
        output::say(&format!("{}: {} instructions", path.display(), program.insns().len()));
    }
    output::say("The kernel has to load all of these; in which order does not matter.");
    Ok(ExitCode::SUCCESS)
}

/// How to compile.
fn options(args: &Compile) -> Result<Options, Failure> {
    let mut options = Options::default();
    if args.size {
        options.level = Level::Size;
    }
    if args.thorough {
        options.effort = Effort::Thorough;
    }
    for path in &args.recordings {
        let frequencies = options.frequencies.get_or_insert_default();
        frequencies.add_recording(&documents::recording(path)?);
    }
    Ok(options)
}

fn failure(error: CompileError, args: &Compile) -> Failure {
    let hint = match &error {
        CompileError::TooLong { .. } if !args.split => " (--split makes several programs of it)",
        _ => "",
    };
    let name = input::name(&args.policy);
    Failure::bad_input(anyhow::Error::new(error).context(format!("{name}{hint}")))
}

/// The file of one of several programs.
fn numbered(path: &Path, number: usize) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

/// A program in a form; `suffix` goes to the names in it.
fn text(program: &Program, format: ProgramFormat, suffix: &str) -> Result<Vec<u8>, Failure> {
    Ok(match format {
        ProgramFormat::Bpf => program.to_bytes(),
        ProgramFormat::Hex => program.to_hex().into_bytes(),
        ProgramFormat::C => program.to_c(&format!("filter{suffix}")).into_bytes(),
        ProgramFormat::Rust => {
            program.to_rust(&format!("FILTER{}", suffix.to_uppercase())).into_bytes()
        }
        ProgramFormat::Pfc => pfc(program)?.into_bytes(),
        ProgramFormat::Json => json(program).into_bytes(),
    })
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

/// The instructions as JSON, the four numbers in the kernel's order: the form in which programs are
/// often exchanged.
fn json(program: &Program) -> String {
    let instructions: Vec<String> = program
        .insns()
        .iter()
        .map(|Insn { code, jt, jf, k }| {
            format!("{{\"code\":{code},\"jt\":{jt},\"jf\":{jf},\"k\":{k}}}")
        })
        .collect();
    format!("[{}]\n", instructions.join(",\n "))
}
