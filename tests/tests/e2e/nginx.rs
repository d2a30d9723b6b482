//! nginx with curl, which checks contents, and wrk, which loads it.

use anyhow::{Context, Result, ensure};
use preloop_tests::checksum::expect_file;
use preloop_tests::ports;
use preloop_tests::scene::Scene;
use preloop_tests::tools::nginx::Nginx;
use preloop_tests::tools::wrk;

in_every_world!(curl_and_one_worker, curl_and_two_workers, wrk_and_one_worker, wrk_and_two_workers);

fn curl_and_one_worker(scene: &Scene) -> Result<()> {
    curl(scene, 1)
}

fn curl_and_two_workers(scene: &Scene) -> Result<()> {
    curl(scene, 2)
}

fn wrk_and_one_worker(scene: &Scene) -> Result<()> {
    load(scene, 1)
}

fn wrk_and_two_workers(scene: &Scene) -> Result<()> {
    load(scene, 2)
}

fn curl(scene: &Scene, workers: usize) -> Result<()> {
    let port = ports::free()?;
    let nginx = Nginx::start(scene, port, workers)?;
    // One connection, slow enough to be seen by the observer.
    let observer = scene.observe(port)?;
    download(scene, &nginx, 8, &["--limit-rate", "200M"])?;
    observer.expect(1)?;
    let observer = scene.observe(port)?;
    download(scene, &nginx, 4, &["-H", "Connection: close"])?;
    observer.expect(0)
}

/// Fetches both files so many times with one curl.
fn download(scene: &Scene, nginx: &Nginx, rounds: usize, options: &[&str]) -> Result<()> {
    let files = [("page", &nginx.page), ("body", &nginx.body)];
    let rounds: Vec<_> = (0..rounds).flat_map(|round| files.map(|file| (round, file))).collect();
    let copy = |round, name| scene.path(&format!("{name}.{round}"));
    let mut curl = scene.client("curl").line("--silent --show-error --fail").args(options);
    for &(round, (name, _)) in &rounds {
        curl = curl.arg("-o").arg(copy(round, name)).arg(format!("{}/{name}", nginx.url));
    }
    curl.run()?;
    for &(round, (name, sent)) in &rounds {
        expect_file(&copy(round, name), sent).with_context(|| format!("round {round}"))?;
    }
    Ok(())
}

fn load(scene: &Scene, workers: usize) -> Result<()> {
    let port = ports::free()?;
    let nginx = Nginx::start(scene, port, workers)?;
    let page = format!("{}/page", nginx.url);
    let body = format!("{}/body", nginx.url);
    let kept = "-t2 -c50 -d2s";
    for (launch, connections) in [
        (wrk::client(scene, kept, &page), 50),
        (wrk::client(scene, "-t1 -c4 -d2s", &body), 4),
        (wrk::closing(wrk::client(scene, "-t1 -c50 -d1s", &page)), 0),
    ] {
        let observer = scene.observe(port)?;
        let client = launch.run()?;
        observer.expect(connections)?;
        ensure!(wrk::rate(&client)? > 0.0, "{}", client.stdout);
    }
    Ok(())
}
