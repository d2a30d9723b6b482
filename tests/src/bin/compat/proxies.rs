//! Proxies before nginx, which stands on the client's side: the same files and load as for web servers.

use anyhow::Result;
use preloop_tests::process::Process;

use crate::application::{Application, USUAL};
use crate::run::Run;
use crate::web::{Site, certificate, load, start_nginx};

pub(crate) const APPLICATIONS: &[Application] = &[
    Application {
        name: "haproxy-tcp",
        does: "server: haproxy, client: nginx behind it and curl and wrk before it, as for nginx",
        needs: &["haproxy", "nginx", "curl", "wrk"],
        versions: &["haproxy -v", "nginx -v"],
        exercise: |run| between(run, |run, front, back| haproxy(run, front, back, "tcp")),
        ..USUAL
    },
    Application {
        name: "haproxy-http",
        does: "server: haproxy, client: nginx behind it and curl and wrk before it, as for nginx",
        needs: &["haproxy", "nginx", "curl", "wrk"],
        versions: &["haproxy -v", "nginx -v"],
        exercise: |run| between(run, |run, front, back| haproxy(run, front, back, "http")),
        ..USUAL
    },
    Application {
        name: "varnish",
        does: "server: varnish, which caches, client: nginx behind it and curl and wrk before it, as for nginx",
        needs: &["varnishd", "nginx", "curl", "wrk"],
        versions: &["varnishd -V", "nginx -v"],
        unprivileged: true,
        exercise: |run| between(run, varnish),
        ..USUAL
    },
    Application {
        name: "squid",
        does: "server: squid, which caches nothing, client: nginx behind it and curl and wrk before it, as for nginx",
        needs: &["squid", "nginx", "curl", "wrk"],
        versions: &["squid -v", "nginx -v"],
        unprivileged: true,
        exercise: |run| between(run, squid),
        ..USUAL
    },
    Application {
        name: "stunnel",
        does: "server: stunnel, which ends TLS, client: nginx behind it and curl and wrk before it, as for nginx",
        needs: &["stunnel4", "openssl", "nginx", "curl", "wrk"],
        versions: &["stunnel4 -version", "nginx -v"],
        exercise: stunnel,
        ..USUAL
    },
    Application {
        name: "socat",
        does: "server: socat, which forks for each connection, client: nginx behind it and curl and wrk before it, as for nginx",
        needs: &["socat", "nginx", "curl", "wrk"],
        versions: &["socat -V", "nginx -v"],
        exercise: |run| between(run, socat),
        ..USUAL
    },
];

/// Starts nginx, the proxy before it, which is told both ports, and uses it.
fn between(run: &Run, proxy: impl FnOnce(&Run, u16, u16) -> Result<Process>) -> Result<()> {
    between_as(run, "http", "", proxy)
}

/// As above, by this scheme and with these options of curl.
fn between_as(
    run: &Run,
    scheme: &str,
    options: &str,
    proxy: impl FnOnce(&Run, u16, u16) -> Result<Process>,
) -> Result<()> {
    let [front, back] = run.ports()?;
    let site = Site::make(run)?;
    let _behind = start_nginx(run, run.client("nginx"), back, &format!("listen 127.0.0.1:{back}; root root;"))?;
    let _server = proxy(run, front, back)?;
    let url = format!("{scheme}://127.0.0.1:{front}");
    site.download(run, &url, options)?;
    load(run, &url)
}

fn haproxy(run: &Run, front: u16, back: u16, mode: &str) -> Result<Process> {
    let configuration = run.write(
        "haproxy.cfg",
        &format!(
            "defaults\n  mode {mode}\n  timeout connect 10s\n  timeout client 60s\n  timeout server 60s
frontend front\n  bind 127.0.0.1:{front}\n  default_backend back
backend back\n  server nginx 127.0.0.1:{back}\n"
        ),
    )?;
    run.server("haproxy").arg("-db").arg("-f").arg(configuration).listen(front)
}

fn varnish(run: &Run, front: u16, back: u16) -> Result<Process> {
    let options = format!("-F -j none -T none -s malloc,64m -a 127.0.0.1:{front} -b 127.0.0.1:{back} -n");
    run.server("varnishd").line(&options).arg(run.path("varnish")).listen(front)
}

fn squid(run: &Run, front: u16, back: u16) -> Result<Process> {
    let dir = run.dir();
    let settings = format!(
        "http_port 127.0.0.1:{front} accel defaultsite=127.0.0.1\ncache_peer 127.0.0.1 parent {back} 0 no-query originserver
http_access allow all\ncache deny all\naccess_log none\ncache_log {dir}/cache.log\nnetdb_filename none\npid_filename none
pinger_enable off\nvisible_hostname localhost\nshutdown_lifetime 0 seconds\ncoredump_dir {dir}\n"
    );
    let configuration = run.write("squid.conf", &settings)?;
    run.server("squid").line("-N -f").arg(configuration).listen(front)
}

fn stunnel(run: &Run) -> Result<()> {
    certificate(run)?;
    between_as(run, "https", "--cacert cert.pem", |run, front, back| {
        let settings = format!(
            "foreground = yes\npid =\ndebug = err\n[nginx]\naccept = 127.0.0.1:{front}\nconnect = 127.0.0.1:{back}
cert = cert.pem\nkey = key.pem\n"
        );
        let configuration = run.write("stunnel.conf", &settings)?;
        run.server("stunnel4").arg(configuration).listen(front)
    })
}

fn socat(run: &Run, front: u16, back: u16) -> Result<Process> {
    let listener = format!("TCP-LISTEN:{front},bind=127.0.0.1,reuseaddr,fork,backlog=128");
    run.server("socat").arg(listener).arg(format!("TCP:127.0.0.1:{back}")).listen(front)
}
