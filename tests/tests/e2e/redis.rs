//! redis: many connections with one request at a time or sixteen, and contents through one connection.

use anyhow::{Result, ensure};
use preloop_tests::scene::Scene;
use preloop_tests::tools::redis;
use preloop_tests::{ports, programs};

in_every_world!(benchmark, pipelined_benchmark, contents);

fn benchmark(scene: &Scene) -> Result<()> {
    load(scene, "-c 200 -n 600000 -d 64 -t set,get")
}

fn pipelined_benchmark(scene: &Scene) -> Result<()> {
    load(scene, "-c 200 -n 4000000 -P 16 -d 64 -t set,get")
}

fn load(scene: &Scene, options: &str) -> Result<()> {
    let port = ports::free()?;
    let _server = redis::server(scene, port).listen(port)?;
    let observer = scene.observe(port)?;
    let client = redis::benchmark(scene, port, options).run()?;
    observer.expect(200)?;
    for test in ["SET", "GET"] {
        ensure!(redis::rate(&client, test)? > 0.0, "{}", client.stdout);
    }
    let stats = scene.client("redis-cli").line(&format!("-p {port} info stats")).run()?.stdout;
    ensure!(stats.contains("total_error_replies:0"), "redis refused requests:\n{stats}");
    Ok(())
}

fn contents(scene: &Scene) -> Result<()> {
    let port = ports::free()?;
    let _server = redis::server(scene, port).listen(port)?;
    let observer = scene.observe(port)?;
    let script = programs::script("redis_contents.py");
    let mut client = scene.client("python3").arg(script).arg(port.to_string()).piped().start()?;
    client.wait_for_line("verified")?;
    observer.wait_for(1)?;
    client.end_input();
    client.success()?;
    observer.expect(1)
}
