//! Servers and clients in the languages that programs are written in.

use anyhow::Result;

use crate::application::{Application, Expected, USUAL};
use crate::run::{Run, expect_line, script};
use crate::web::echo;

pub(crate) const APPLICATIONS: &[Application] = &[
    Application {
        name: "node",
        does: "its HTTP server echoes; its HTTP client posts 400 bodies of up to 300 kB over 4 connections and compares",
        needs: &["node", "curl"],
        versions: &["node --version"],
        exercise: |run| pair(run, "node", "node_server.js", "node_client.js", "verified 400"),
        ..USUAL
    },
    Application {
        name: "java",
        does: "the JDK's HTTP server echoes; its HttpClient and its HttpURLConnection post 200 bodies of up to 300 kB each and compare",
        needs: &["java", "javac", "curl"],
        versions: &["java -version"],
        exercise: |run| pair(run, "java", "EchoServer.java", "EchoClient.java", "verified 400"),
        ..USUAL
    },
    Application {
        name: "python-asyncio",
        does: "a server of streams echoes; 10 clients send 300 messages of up to 100 kB each and compare",
        needs: &["python3", "curl"],
        versions: &["python3 --version"],
        exercise: |run| pair(run, "python3", "asyncio_server.py", "asyncio_client.py", "verified 3000"),
        ..USUAL
    },
    Application {
        name: "uvicorn",
        does: "an application echoes; curl posts 16 bodies of 1 MB over one connection, SHA-256",
        needs: &["uvicorn", "curl"],
        versions: &["uvicorn --version", "curl --version"],
        exercise: uvicorn,
        ..USUAL
    },
    Application {
        name: "gunicorn",
        does: "an application echoes in 2 workers of 4 threads; curl posts 16 bodies of 1 MB over one connection, SHA-256",
        needs: &["gunicorn", "curl"],
        versions: &["gunicorn --version", "curl --version"],
        exercise: gunicorn,
        ..USUAL
    },
    Application {
        name: "php",
        does: "the web server built into it, with 4 workers; a script echoes 16 uploads of 1 MB, SHA-256",
        needs: &["php", "curl"],
        versions: &["php --version", "curl --version"],
        expected: Expected::Either("it closes each connection after one answer"),
        exercise: php,
        ..USUAL
    },
    Application {
        name: "perl",
        does: "a forking server and a client of IO::Socket; 4 clients send 4000 lines of up to 20 kB each and compare",
        needs: &["perl"],
        versions: &["perl --version"],
        exercise: |run| pair(run, "perl", "server.pl", "client.pl", "verified 16000"),
        ..USUAL
    },
    Application {
        name: "ruby",
        does: "a server of threads and a client of TCPSocket; 4 clients send 16000 lines of up to 20 kB each and compare",
        needs: &["ruby"],
        versions: &["ruby --version"],
        exercise: |run| pair(run, "ruby", "server.rb", "client.rb", "verified 64000"),
        ..USUAL
    },
];

/// A server and a client in one language; the client's last line says what it verified.
fn pair(run: &Run, language: &str, server: &str, client: &str, verified: &str) -> Result<()> {
    let [port] = run.ports()?;
    let _server = run.server(language).arg(script(server)).arg(port.to_string()).listen(port)?;
    expect_line(&run.client(language).arg(script(client)).arg(port.to_string()).run()?, verified)
}

fn uvicorn(run: &Run) -> Result<()> {
    let [port] = run.ports()?;
    let application = script("asgi_echo.py");
    let dir = application.parent().unwrap_or(&application);
    let server = run.server("uvicorn").env("PYTHONDONTWRITEBYTECODE", "1").arg("--app-dir").arg(dir);
    let _server = server.line(&format!("--host 127.0.0.1 --port {port} asgi_echo:application")).listen(port)?;
    echo(run, &format!("http://127.0.0.1:{port}/"))
}

fn gunicorn(run: &Run) -> Result<()> {
    let [port] = run.ports()?;
    let application = script("wsgi_echo.py");
    let dir = application.parent().unwrap_or(&application);
    let server = run.server("gunicorn").env("PYTHONDONTWRITEBYTECODE", "1").arg("--pythonpath").arg(dir);
    let options = format!("--bind 127.0.0.1:{port} --workers 2 --threads 4 --keep-alive 60 wsgi_echo:application");
    let _server = server.line(&options).listen(port)?;
    echo(run, &format!("http://127.0.0.1:{port}/"))
}

fn php(run: &Run) -> Result<()> {
    let [port] = run.ports()?;
    let script = run.write("echo.php", "<?php readfile('php://input');")?;
    let server = run.server("php").env("PHP_CLI_SERVER_WORKERS", "4").line(&format!("-S 127.0.0.1:{port}"));
    let _server = server.arg(script).listen(port)?;
    echo(run, &format!("http://127.0.0.1:{port}/"))
}
