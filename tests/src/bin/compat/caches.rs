//! Stores in memory.

use std::time::Duration;

use anyhow::{Result, ensure};
use preloop_tests::process::Process;
use preloop_tests::tools::redis;
use preloop_tests::{programs, wait};

use crate::application::{Application, USUAL};
use crate::run::{Run, expect_line, script};

pub(crate) const APPLICATIONS: &[Application] = &[
    Application {
        name: "redis",
        does: "values of up to 1 MB by a client of its own, compared; redis-benchmark: 50 connections, no error replies",
        needs: &["redis-server", "redis-benchmark", "redis-cli", "python3"],
        versions: &["redis-server --version"],
        exercise: redis,
        ..USUAL
    },
    Application {
        name: "redis-lua",
        does: "redis-benchmark runs a Lua script in 50 connections; the counters that it keeps must add up",
        needs: &["redis-server", "redis-benchmark", "redis-cli"],
        versions: &["redis-server --version"],
        exercise: lua,
        ..USUAL
    },
    Application {
        name: "redis-replication",
        does: "server: primary, client: replica; 40 MB before and 20,000 writes after it joined; digests of both data sets",
        needs: &["redis-server", "redis-benchmark", "redis-cli"],
        versions: &["redis-server --version"],
        exercise: replication,
        ..USUAL
    },
    Application {
        name: "memcached",
        does: "8 connections set, get and delete values of up to 500 kB; each answer compared",
        needs: &["memcached", "python3"],
        versions: &["memcached --version", "python3 --version"],
        exercise: memcached,
        ..USUAL
    },
];

fn redis(run: &Run) -> Result<()> {
    let [port] = run.ports()?;
    let _server = redis::server(run.scene(), port).listen(port)?;
    let contents = programs::script("redis_contents.py");
    let mut client = run.client("python3").arg(contents).arg(port.to_string()).piped().start()?;
    client.wait_for_line("verified")?;
    client.success()?;
    redis::benchmark(run.scene(), port, "-c 50 -n 200000 -d 64 -t set,get,lpush,lpop").run()?;
    ensure!(ask(run, port, "info stats")?.contains("total_error_replies:0"), "redis refused requests");
    Ok(())
}

fn lua(run: &Run) -> Result<()> {
    const CALLS: &str = "100000";
    let [port] = run.ports()?;
    let _server = redis::server(run.scene(), port).listen(port)?;
    let count = "for i = 1, 10 do redis.call('incr', 'counter:' .. i) end return redis.call('incr', 'calls')";
    let client = redis::benchmark(run.scene(), port, &format!("-c 50 -n {CALLS} eval")).args([count, "0"]).run()?;
    for counter in ["calls", "counter:1", "counter:10"] {
        let counted = ask(run, port, &format!("get {counter}"))?;
        ensure!(counted.trim() == CALLS, "{counter} is {counted}, not {CALLS}:\n{}", client.stderr);
    }
    Ok(())
}

fn replication(run: &Run) -> Result<()> {
    let [port, other] = run.ports()?;
    let _primary =
        redis::server(run.scene(), port).line("--enable-debug-command yes --dbfilename primary.rdb").listen(port)?;
    let fill = |options: &str| redis::benchmark(run.scene(), port, options).run();
    fill("-c 4 -n 10000 -r 1000000 -d 4000 -t set")?;
    let _replica = start_replica(run, port, other)?;
    wait::until("the replica has joined", Duration::from_secs(30), || {
        Ok(ask(run, other, "info replication")?.contains("master_link_status:up"))
    })?;
    fill("-c 4 -n 20000 -r 1000000 -d 100 -t set,lpush")?;
    ensure!(ask(run, port, "wait 1 30000")?.trim() == "1", "the replica does not follow");
    let [first, second] = [port, other].map(|port| ask(run, port, "debug digest"));
    let (first, second) = (first?, second?);
    ensure!(first == second && first.trim().len() == 40, "the data sets differ: {first}{second}");
    Ok(())
}

/// A second redis, which fetches everything from the first.
fn start_replica(run: &Run, primary: u16, port: u16) -> Result<Process> {
    let options = format!("--port {port} --bind 127.0.0.1 --enable-debug-command yes --dbfilename replica.rdb");
    let replica = run.client("redis-server").line(&options).args(["--save", ""]);
    replica.arg("--replicaof").arg(format!("127.0.0.1 {primary}")).listen(port)
}

/// What the server answers to a command.
fn ask(run: &Run, port: u16, command: &str) -> Result<String> {
    Ok(run.client("redis-cli").line(&format!("-h 127.0.0.1 -p {port} {command}")).run()?.stdout)
}

fn memcached(run: &Run) -> Result<()> {
    let [port] = run.ports()?;
    let user = if rustix::process::geteuid().is_root() { "-u root" } else { "" };
    let options = format!("-l 127.0.0.1 -p {port} -t 4 -m 256 {user}");
    let _server = run.server("memcached").line(&options).listen(port)?;
    let client = run.client("python3").arg(script("memcached.py")).arg(port.to_string()).run()?;
    expect_line(&client, "verified 2400")
}
