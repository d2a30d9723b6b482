//! Web servers: files and echoes by curl, whose checksums must agree, and load by wrk or ab, which must see no error.

use std::fs;

use anyhow::{Context, Result, ensure};
use preloop_tests::checksum::{expect_file, random_file};
use preloop_tests::launch::Launch;
use preloop_tests::process::Process;
use preloop_tests::tools::wrk;

use crate::application::{Application, Expected, USUAL};
use crate::run::Run;

pub(crate) const DOWNLOADS: &str =
    "curl: 24 files of 612 B and 4 MB over 4 connections, SHA-256; wrk: 50 connections, no errors";

pub(crate) const APPLICATIONS: &[Application] = &[
    Application {
        name: "nginx",
        does: DOWNLOADS,
        needs: &["nginx", "curl", "wrk"],
        versions: &["nginx -v", "curl --version"],
        exercise: nginx,
        ..USUAL
    },
    Application {
        name: "nginx-http2",
        does: "curl: the same files in HTTP/2 streams of one TLS connection, SHA-256",
        needs: &["nginx", "curl", "openssl"],
        versions: &["nginx -v", "curl --version"],
        exercise: nginx_http2,
        ..USUAL
    },
    Application {
        name: "apache2-event",
        does: DOWNLOADS,
        needs: &["apache2", "curl", "wrk"],
        versions: &["apache2 -v", "curl --version"],
        unprivileged: true,
        exercise: |run| apache(run, "event"),
        ..USUAL
    },
    Application {
        name: "apache2-prefork",
        does: DOWNLOADS,
        needs: &["apache2", "curl", "wrk"],
        versions: &["apache2 -v", "curl --version"],
        unprivileged: true,
        exercise: |run| apache(run, "prefork"),
        ..USUAL
    },
    Application {
        name: "lighttpd",
        does: "curl as for nginx; ab: 50 connections make 200,000 requests, kept alive, and 20,000 with a connection each, no errors",
        needs: &["lighttpd", "curl", "ab"],
        versions: &["lighttpd -v", "ab -V"],
        exercise: lighttpd,
        ..USUAL
    },
    Application {
        name: "caddy",
        does: DOWNLOADS,
        needs: &["caddy", "curl", "wrk"],
        versions: &["caddy version", "curl --version"],
        expected: Expected::Tcp("caddy is written in Go, which cannot be preloaded"),
        exercise: caddy,
        ..USUAL
    },
    Application {
        name: "php-fpm",
        does: "server: php-fpm, client: nginx before it and curl; a script echoes 16 uploads of 1 MB at once and 16 piece by piece, SHA-256",
        needs: &["php-fpm", "nginx", "curl"],
        versions: &["php-fpm -v", "nginx -v"],
        unprivileged: true,
        exercise: php,
        ..USUAL
    },
];

fn nginx(run: &Run) -> Result<()> {
    let [port] = run.ports()?;
    let site = Site::make(run)?;
    let _server = start_nginx(run, run.server("nginx"), port, &format!("listen 127.0.0.1:{port}; root root;"))?;
    let url = format!("http://127.0.0.1:{port}");
    site.download(run, &url, "")?;
    load(run, &url)
}

fn nginx_http2(run: &Run) -> Result<()> {
    let [port] = run.ports()?;
    let site = Site::make(run)?;
    certificate(run)?;
    let tls = "ssl_certificate cert.pem; ssl_certificate_key key.pem;";
    let server = format!("listen 127.0.0.1:{port} ssl http2; {tls} root root;");
    let _server = start_nginx(run, run.server("nginx"), port, &server)?;
    site.download(run, &format!("https://127.0.0.1:{port}"), "--http2 --cacert cert.pem")
}

/// Starts nginx with two workers and one virtual server.
pub(crate) fn start_nginx(run: &Run, launch: Launch<'_>, port: u16, server: &str) -> Result<Process> {
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    let spools = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|kind| format!("{kind}_temp_path spool;"));
    let configuration = run.write(
        "nginx.conf",
        &format!(
            "{user} daemon off; worker_processes 2; pid nginx.pid; error_log stderr;
            events {{ worker_connections 1024; }}
            http {{ {} access_log off; sendfile on; keepalive_requests 1000000; client_max_body_size 0;
                server {{ {server} }} }}",
            spools.concat()
        ),
    )?;
    launch.arg("-p").arg(run.dir()).arg("-c").arg(configuration).line("-e stderr").listen(port)
}

fn apache(run: &Run, processing: &str) -> Result<()> {
    let [port] = run.ports()?;
    let site = Site::make(run)?;
    let dir = run.dir();
    let modules = [&format!("mpm_{processing}"), "authz_core"]
        .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"));
    // One worker for each connection, in each of the processes: with none to spare the server closes connections that it
    // had kept alive, which is an error to their client.
    let servers = if processing == "prefork" {
        "StartServers 60\nMaxRequestWorkers 60"
    } else {
        "StartServers 2\nThreadsPerChild 64\nMaxRequestWorkers 128\nMaxSpareThreads 128"
    };
    let configuration = run.write(
        "apache.conf",
        &format!(
            "{}ServerRoot {dir}\nServerName 127.0.0.1\nListen 127.0.0.1:{port}\nDocumentRoot root\nPidFile pid
            DefaultRuntimeDir {dir}\nErrorLog {dir}/error.log\nKeepAlive On\nKeepAliveTimeout 60\nMaxKeepAliveRequests 0\n{servers}",
            modules.concat()
        ),
    )?;
    let _server = run.server("apache2").arg("-f").arg(configuration).line("-D FOREGROUND").listen(port)?;
    let url = format!("http://127.0.0.1:{port}");
    site.download(run, &url, "")?;
    load(run, &url)
}

fn lighttpd(run: &Run) -> Result<()> {
    let [port] = run.ports()?;
    let site = Site::make(run)?;
    let settings = format!(
        "server.document-root = \"{}/root\"\nserver.bind = \"127.0.0.1\"\nserver.port = {port}
server.max-keep-alive-requests = 1000000\n",
        run.dir()
    );
    let configuration = run.write("lighttpd.conf", &settings)?;
    let _server = run.server("lighttpd").line("-D -f").arg(configuration).listen(port)?;
    let url = format!("http://127.0.0.1:{port}");
    site.download(run, &url, "")?;
    for options in ["-q -c 50 -n 200000 -k", "-q -c 50 -n 20000"] {
        let finished = run.client("ab").line(options).arg(format!("{url}/page")).run()?;
        let failed = finished.stdout.lines().find(|line| line.starts_with("Failed requests:"));
        let none = failed.is_some_and(|line| line.ends_with(" 0")) && !finished.stdout.contains("Non-2xx");
        ensure!(none, "{}", finished.stdout);
    }
    Ok(())
}

fn caddy(run: &Run) -> Result<()> {
    let [port] = run.ports()?;
    let site = Site::make(run)?;
    let listen = format!("file-server --listen 127.0.0.1:{port} --root root");
    let _server = run.server("caddy").env("HOME", run.dir()).line(&listen).listen(port)?;
    let url = format!("http://127.0.0.1:{port}");
    site.download(run, &url, "")?;
    load(run, &url)
}

fn php(run: &Run) -> Result<()> {
    let ([back], [front]) = (run.ports()?, run.unwatched_ports()?);
    let script = run.write("echo.php", "<?php readfile('php://input');")?;
    let pool = format!(
        "[global]\nerror_log={}/error.log\n[pool]\nlisten=127.0.0.1:{back}\npm=static\npm.max_children=4\n",
        run.dir()
    );
    let configuration = run.write("fpm.conf", &pool)?;
    let _server = run.server("php-fpm").line("--nodaemonize --fpm-config").arg(configuration).listen(back)?;
    let fastcgi = format!(
        "fastcgi_pass 127.0.0.1:{back}; fastcgi_param SCRIPT_FILENAME {};
        fastcgi_param REQUEST_METHOD $request_method; fastcgi_param CONTENT_LENGTH $content_length;
        fastcgi_param CONTENT_TYPE $content_type;",
        script.display()
    );
    let streamed = "fastcgi_buffering off; fastcgi_request_buffering off;";
    let server = format!(
        "listen 127.0.0.1:{front}; location /whole {{ {fastcgi} }} location /streamed {{ {streamed} {fastcgi} }}"
    );
    let _before = start_nginx(run, run.client("nginx"), front, &server)?;
    echo(run, &format!("http://127.0.0.1:{front}/whole"))?;
    // Each upload has a connection of its own, which smcss is to see.
    echo_at(run, &format!("http://127.0.0.1:{front}/streamed"), "5M")
}

/// Makes `cert.pem`, which is its own authority and names 127.0.0.1, and `key.pem`.
pub(crate) fn certificate(run: &Run) -> Result<()> {
    let request = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1";
    run.client("openssl").line(request).line("-keyout key.pem -out cert.pem").run().map(drop)
}

/// Sends a file 16 times over one connection to a server that must send it back.
pub(crate) fn echo(run: &Run, url: &str) -> Result<()> {
    echo_at(run, url, "20M")
}

/// As above, with so many bytes a second.
fn echo_at(run: &Run, url: &str, rate: &str) -> Result<()> {
    let sent = random_file(&run.path("upload"), 1 << 20, 1)?;
    let copies: Vec<_> = (0..16).map(|round| run.path(&format!("echo.{round}"))).collect();
    let mut curl = run.client("curl");
    for (round, copy) in copies.iter().enumerate() {
        curl = curl.args((round > 0).then_some("--next")).line("--silent --show-error --fail --limit-rate").arg(rate);
        curl = curl.line("-H Content-Type:application/octet-stream --data-binary @upload").arg("-o").arg(copy).arg(url);
    }
    curl.run()?;
    copies.iter().try_for_each(|copy| expect_file(copy, &sent))
}

/// Files below `root`, and their checksums.
pub(crate) struct Site {
    files: [(&'static str, String); 2],
}

impl Site {
    pub(crate) fn make(run: &Run) -> Result<Self> {
        fs::create_dir(run.path("root"))?;
        let file = |name, bytes| anyhow::Ok((name, random_file(&run.path("root").join(name), bytes, bytes)?));
        Ok(Self { files: [file("page", 612)?, file("body", 4_000_000)?] })
    }

    /// Fetches both files twelve times, at most four at a time.
    pub(crate) fn download(&self, run: &Run, url: &str, options: &str) -> Result<()> {
        let rounds: Vec<_> = (0..12).flat_map(|round| self.files.iter().map(move |file| (round, file))).collect();
        let copy = |round: i32, name: &str| run.path(&format!("{name}.{round}"));
        let mut curl = run.client("curl").line("--silent --show-error --fail-early --parallel --parallel-max 4");
        curl = curl.line("--limit-rate 20M").line(options);
        for &(round, (name, _)) in &rounds {
            curl = curl.arg("-o").arg(copy(round, name)).arg(format!("{url}/{name}"));
        }
        curl.run()?;
        for (round, (name, sent)) in rounds {
            expect_file(&copy(round, name), sent).with_context(|| format!("round {round}"))?;
        }
        Ok(())
    }
}

/// Two seconds of requests over fifty connections, none of which may fail.
pub(crate) fn load(run: &Run, url: &str) -> Result<()> {
    let client = wrk::client(run.scene(), "-t2 -c50 -d2s", &format!("{url}/page")).run()?;
    let refused = ["Socket errors", "Non-2xx"].into_iter().find(|error| client.stdout.contains(error));
    ensure!(refused.is_none() && wrk::rate(&client)? > 0.0, "{}", client.stdout);
    Ok(())
}
