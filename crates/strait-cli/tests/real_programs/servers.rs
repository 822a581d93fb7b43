//! Servers under load, stopped gracefully; each with its clients in one script, so that one command
//! is the whole of it.

use std::net::TcpListener;

use crate::bench::{Bench, have};

#[test]
fn curl_against_a_local_server() {
    if have("curl_against_a_local_server", &["curl", "python3"]) {
        let bench = Bench::new();
        // The server is outside: only curl is tightened.
        let mut server = std::process::Command::new("python3")
            .args(["-m", "http.server", "--bind", "127.0.0.1", "0"])
            .current_dir(bench.dir())
            .env("PYTHONUNBUFFERED", "1")
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = server.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
        let port = line.split("port ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
        let url = format!("http://127.0.0.1:{port}/");
        let tightened =
            bench.tighten(&["curl", "--silent", "--fail", "--output", "/dev/null", &url]);
        server.kill().unwrap();
        server.wait().unwrap();
        tightened.assert_holds();
        bench.assert_denies_the_unrecorded(&tightened);
    }
}

#[test]
fn nginx_serves_and_stops_gracefully() {
    if have("nginx_serves_and_stops_gracefully", &["nginx", "curl"]) {
        let bench = Bench::new();
        let script = nginx(&bench);
        bench.tighten_holds(&["sh", &script]);
    }
}

#[test]
fn redis_serves_its_benchmark_and_stops() {
    if have(
        "redis_serves_its_benchmark_and_stops",
        &["redis-server", "redis-cli", "redis-benchmark"],
    ) {
        let bench = Bench::new();
        let script = redis(&bench);
        bench.tighten_holds(&["sh", &script]);
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A script that starts nginx with two workers, loads it with curl, and has it quit.
pub fn nginx(bench: &Bench) -> String {
    let dir = bench.path("");
    let port = free_port();
    bench.write("index.html", &"strait ".repeat(4000));
    let user = if crate::bench::is_root() { "user root;" } else { "" };
    bench.write(
        "nginx.conf",
        &format!(
            "{user} worker_processes 2; pid {dir}/nginx.pid; error_log {dir}/error.log;
             events {{ worker_connections 64; }}
             http {{ access_log {dir}/access.log; sendfile on;
                     client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy;
                     fastcgi_temp_path {dir}/fastcgi; uwsgi_temp_path {dir}/uwsgi;
                     scgi_temp_path {dir}/scgi;
                     server {{ listen 127.0.0.1:{port}; root {dir}; }} }}"
        ),
    );
    bench.write(
        "nginx.sh",
        &format!(
            "set -e
export PATH=$PATH:/usr/sbin
nginx -c {dir}/nginx.conf
for i in $(seq 40); do
  curl --silent --fail -o /dev/null http://127.0.0.1:{port}/index.html http://127.0.0.1:{port}/index.html
  curl --silent -o /dev/null http://127.0.0.1:{port}/missing
done
pid=$(cat {dir}/nginx.pid)
kill -QUIT $pid
sleep 0.01 # so that every run has a sleep, however fast the server is
while kill -0 $pid 2>/dev/null; do sleep 0.05; done"
        ),
    )
}

/// A script that starts redis, sets and gets, runs its benchmark, and shuts it down with a save.
pub fn redis(bench: &Bench) -> String {
    let dir = bench.path("");
    let port = free_port();
    bench.write(
        "redis.sh",
        &format!(
            "set -e
# A connection that is refused is part of every run, whoever wins the race for the port below.
redis-cli -p {port} ping >/dev/null 2>&1 || true
redis-server --port {port} --bind 127.0.0.1 --dir {dir} --daemonize yes \
  --pidfile {dir}/redis.pid --logfile {dir}/redis.log --save 3600 1 >/dev/null
sleep 0.01 # so that every run has a sleep, however fast the server is
until redis-cli -p {port} ping >/dev/null 2>&1; do sleep 0.05; done
redis-cli -p {port} set name strait >/dev/null
test \"$(redis-cli -p {port} get name)\" = strait
redis-benchmark -p {port} -q -n 2000 -c 20 -t set,get,lpush,lrange >/dev/null
pid=$(cat {dir}/redis.pid)
redis-cli -p {port} shutdown save
sleep 0.01
while kill -0 $pid 2>/dev/null; do sleep 0.05; done"
        ),
    )
}
