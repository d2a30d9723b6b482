//! Python: its web server with one request per connection, a dialogue in which the server speaks first, and a server
//! that forks for each connection.

use anyhow::{Result, ensure};
use preloop_tests::checksum::random_file;
use preloop_tests::scene::Scene;
use preloop_tests::{ports, programs};

in_every_world!(http_server, server_speaks_first, server_forks);

fn http_server(scene: &Scene) -> Result<()> {
    const FILES: u64 = 20;
    let port = ports::free()?;
    let root = scene.path("root");
    std::fs::create_dir(&root)?;
    let mut expected = String::new();
    for file in 0..FILES {
        // From one byte to 4 MB.
        let sum = random_file(&root.join(file.to_string()), 1 << (file * 22 / (FILES - 1)), file)?;
        expected += &format!("{sum}\n");
    }
    let server = scene.server("python3").line(&format!("-m http.server {port} --bind 127.0.0.1 --directory"));
    let _server = server.arg(&root).listen(port)?;
    let observer = scene.observe(port)?;
    let client = scene.client("python3").arg(programs::script("fetch.py"));
    let client = client.args([format!("http://127.0.0.1:{port}"), FILES.to_string()]).run()?;
    observer.expect(0)?;
    ensure!(client.stdout == expected, "received\n{}sent\n{expected}", client.stdout);
    Ok(())
}

fn server_speaks_first(scene: &Scene) -> Result<()> {
    let port = ports::free()?;
    let program = programs::script("dialogue.py");
    let script = |side: &str| [program.clone().into_os_string(), side.into(), port.to_string().into()];
    let server = scene.server("python3").args(script("server")).listen(port)?;
    let observer = scene.observe(port)?;
    let mut client = scene.client("python3").args(script("client")).piped().start()?;
    client.wait_for_line("verified")?;
    observer.wait_for(1)?;
    client.end_input();
    let (client, server) = (client.success()?.stdout, server.success()?.stdout);
    observer.expect(1)?;
    ensure!(client == server, "the ends heard different things:\n{client}{server}");
    Ok(())
}

/// Every child has its connection under the same number; all must be listed.
fn server_forks(scene: &Scene) -> Result<()> {
    let port = ports::free()?;
    let program = programs::script("forking.py");
    let script = |side: &str| [program.clone().into_os_string(), side.into(), port.to_string().into()];
    let _server = scene.server("python3").args(script("server")).listen(port)?;
    let observer = scene.observe(port)?;
    let mut client = scene.client("python3").args(script("client")).piped().start()?;
    client.wait_for_line("verified 4")?;
    observer.wait_for(4)?;
    client.end_input();
    client.success()?;
    observer.expect(4)
}
