//! What recording costs several calls and a server: `cargo xtask bench calls`.
//!
//! Loops of cheap calls: bare, under eBPF programs that do nothing (what the kernel takes for telling
//! anybody of calls), recorded, and under `strace -f -c`, all of them in turns. The least of many
//! repetitions counts, as everything else that a machine does only adds. Then a server under load:
//! the processor time that it spends on a request, recorded and not, in turns, as medians.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How often everything is measured, in turns.
const ROUNDS: usize = 5;
/// How often the server is, with and without.
const SERVER_ROUNDS: usize = 9;
/// How many requests the server answers in each.
const REQUESTS: u32 = 60_000;

/// The loops of `strait-timed`, what they do, and how many calls one turn is.
const LOOPS: [(&str, &str, f64); 4] = [
    ("getppid", "getppid", 1.0),
    ("read", "read of 1 byte of /dev/zero", 1.0),
    ("pread", "pread of 4 KiB", 1.0),
    ("pipe", "1 byte through a pipe", 2.0),
];

/// Prints nanoseconds a call and ratios.
pub(super) fn run() -> Result<()> {
    let root = crate::root();
    crate::succeed(crate::cargo().args(["build", "--release", "-q", "-p", "strait-testkit"]))?;
    crate::succeed(crate::cargo().args(["build", "--release", "-q", "-p", "strait-cli"]))?;
    let release = root.join("target/release");
    for (name, what, calls) in LOOPS {
        table(&release, name, what, calls)?;
    }
    match server(&release) {
        Ok(()) => Ok(()),
        Err(error) => {
            eprintln!("SKIP redis-server: {error:#}");
            Ok(())
        }
    }
}

/// One loop by every observer.
fn table(release: &Path, name: &str, what: &str, calls: f64) -> Result<()> {
    let text = |path: &Path| path.to_str().map(str::to_owned);
    let unnameable = "the folder's name is not UTF-8";
    let timed = text(&release.join("strait-timed")).context(unnameable)?;
    let strait = text(&release.join("strait")).context(unnameable)?;
    let record = |engine| -> Vec<&str> {
        vec![&strait, "record", "-q", "-o", "/dev/null", "--engine", engine, "--"]
    };
    let ways: [(&str, Vec<&str>, &[&str]); 6] = [
        ("bare", vec![], &["100"]),
        ("empty program on enter", vec![], &["100", "enter"]),
        ("empty on enter and exit", vec![], &["100", "both"]),
        ("strait, ebpf", record("ebpf"), &["100"]),
        ("strait, ptrace", record("ptrace"), &["2"]),
        ("strace -f -c", vec!["strace", "-f", "-c", "-o", "/dev/null"], &["2"]),
    ];
    let mut least = [f64::INFINITY; 6];
    for _ in 0..ROUNDS {
        for ((_, wrapper, arguments), least) in ways.iter().zip(&mut least) {
            let words = [&wrapper[..], &[timed.as_str(), name], arguments].concat();
            *least = least.min(measure(&words)? / calls);
        }
    }
    let [bare, _, floor, ebpf, _, strace] = least;
    println!("{what}, ns a call, the least of {ROUNDS} rounds");
    for ((name, ..), time) in ways.iter().zip(least) {
        println!("  {name:<24} {time:>9.1}  {:>6.2} of bare  +{:.1}", time / bare, time - bare);
    }
    println!(
        "  strait is {:.2} of the empty programs; strace adds {:.0} times what strait does",
        ebpf / floor,
        (strace - bare) / (ebpf - bare)
    );
    Ok(())
}

/// The nanoseconds that a command prints.
pub(crate) fn measure(words: &[&str]) -> Result<f64> {
    let [program, arguments @ ..] = words else { bail!("no command") };
    let output = Command::new(program).args(arguments).output();
    let output = output.with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!("{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    // strait gives the command's output a place of its own, as its own data is for standard output.
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    text.trim().parse().with_context(|| format!("{words:?} printed {text:?}"))
}

/// redis-server under redis-benchmark: bare, under empty programs, recorded.
fn server(release: &Path) -> Result<()> {
    let folder = std::env::temp_dir().join(format!("strait-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let mut ways: [(&str, Vec<Round>); 3] =
        ["bare", "empty on enter and exit", "strait, ebpf"].map(|name| (name, Vec::new()));
    for _ in 0..SERVER_ROUNDS {
        let [(_, bare), (_, empty), (_, recorded)] = &mut ways;
        bare.push(round(&folder, None)?);
        let mut attached = attach_empty(release)?;
        empty.push(round(&folder, None)?);
        end(&mut attached)?;
        recorded.push(round(&folder, Some(&release.join("strait")))?);
    }
    std::fs::remove_dir_all(&folder)?;
    let median = |values: &mut dyn Iterator<Item = f64>| {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    println!("redis-benchmark, GET by 20 clients, medians of {SERVER_ROUNDS} rounds in turns");
    println!("  {:<24} {:>9}          {:>9}", "us a request", "server", "clock");
    let mut first: Option<Round> = None;
    for (name, rounds) in &ways {
        let round = Round {
            processor: median(&mut rounds.iter().map(|round| round.processor)),
            clock: median(&mut rounds.iter().map(|round| round.clock)),
        };
        let bare = first.get_or_insert(round);
        println!(
            "  {name:<24} {:>9.3} {:>+7.1} % {:>9.3} {:>+7.1} %",
            round.processor,
            (round.processor / bare.processor - 1.0) * 100.0,
            round.clock,
            (round.clock / bare.clock - 1.0) * 100.0
        );
    }
    Ok(())
}

/// Empty programs on both tracepoints, until its standard input is closed.
fn attach_empty(release: &Path) -> Result<Child> {
    let mut command = Command::new(release.join("strait-timed"));
    command.args(["wait", "0", "both"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start strait-timed")?;
    let mut line = String::new();
    let output = child.stdout.as_mut().context("it has no standard output")?;
    BufReader::new(output).read_line(&mut line)?;
    Ok(child)
}

/// Microseconds a request.
#[derive(Clone, Copy)]
struct Round {
    /// What the server spent of a processor.
    processor: f64,
    /// What it took.
    clock: f64,
}

/// A server, from its start to its end.
fn round(folder: &Path, recorder: Option<&Path>) -> Result<Round> {
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string();
    let mut command = match recorder {
        None => Command::new("redis-server"),
        Some(strait) => {
            let mut command = Command::new(strait);
            command.args(["record", "-q", "-o", "/dev/null", "--engine", "ebpf", "--"]);
            command.arg("redis-server");
            command
        }
    };
    command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--dir"]).arg(folder);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut server = command.spawn().context("cannot start redis-server")?;
    let measured = load(&port);
    let _ = Command::new("redis-cli").args(["-p", &port, "shutdown", "nosave"]).output();
    end(&mut server)?;
    measured
}

/// Loads the server that listens here.
fn load(port: &str) -> Result<Round> {
    let info = |section: &str| -> Result<String> {
        let output = Command::new("redis-cli").args(["-p", port, "info", section]).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let until = Instant::now() + Duration::from_secs(30);
    let pid = loop {
        let text = info("server")?;
        if let Some(pid) = text.lines().find_map(|line| line.strip_prefix("process_id:")) {
            break pid.trim().to_owned();
        }
        if Instant::now() > until {
            bail!("the server does not answer");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let requests = REQUESTS.to_string();
    let before = processor_time(&pid)?;
    let begin = Instant::now();
    let mut client = Command::new("redis-benchmark");
    client.args(["-p", port, "-q", "-n", &requests, "-c", "20", "-t", "get"]);
    crate::succeed(client.stdout(Stdio::null()))?;
    let clock = begin.elapsed();
    let processor = processor_time(&pid)?.saturating_sub(before);
    let each = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(REQUESTS);
    Ok(Round { processor: each(processor), clock: each(clock) })
}

/// What a process's threads have spent on processors: the first field of `schedstat`, in ns.
fn processor_time(pid: &str) -> Result<Duration> {
    let mut sum = 0;
    for task in std::fs::read_dir(PathBuf::from(format!("/proc/{pid}/task")))? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        sum += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(Duration::from_nanos(sum))
}

/// Waits for a child that was told to end, by its input or otherwise, and sees to it.
fn end(server: &mut Child) -> Result<()> {
    drop(server.stdin.take());
    let until = Instant::now() + Duration::from_secs(10);
    while server.try_wait()?.is_none() {
        if Instant::now() > until {
            server.kill()?;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
