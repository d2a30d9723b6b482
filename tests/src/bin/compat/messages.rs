//! Message brokers and mail: what is received must be what was sent.

use std::time::Duration;

use anyhow::{Result, ensure};
use preloop_tests::process::Process;
use preloop_tests::wait;

use crate::application::{Application, Expected, USUAL};
use crate::run::{Run, expect_line, script};

/// The client library for RabbitMQ's protocol.
const PIKA: &str = "/usr/lib/python3/dist-packages/pika/__init__.py";

pub(crate) const APPLICATIONS: &[Application] = &[
    Application {
        name: "mosquitto",
        does: "4 publishers send 2000 messages each at QoS 1 to 4 subscribers; texts and their order compared",
        needs: &["mosquitto", "mosquitto_pub", "mosquitto_sub"],
        versions: &["mosquitto -h"],
        exercise: mosquitto,
        ..USUAL
    },
    Application {
        name: "rabbitmq",
        does: "3000 messages of up to 20 kB with publisher confirms and acknowledgements, compared byte by byte",
        needs: &["rabbitmq-server", "epmd", "python3", PIKA],
        versions: &["rabbitmqctl version"],
        exercise: rabbitmq,
        ..USUAL
    },
    Application {
        name: "nats-server",
        does: "a subscriber gets 5000 messages of up to 20 kB from a publisher, compared byte by byte",
        needs: &["nats-server", "python3"],
        versions: &["nats-server --version"],
        expected: Expected::Tcp("nats-server is written in Go, which cannot be preloaded"),
        exercise: nats,
        ..USUAL
    },
    Application {
        name: "dovecot",
        does: "4 clients put 25 mails of up to 400 kB each into folders and fetch them, compared byte by byte; its configuration lets LD_PRELOAD through",
        needs: &["dovecot", "/usr/lib/dovecot/imap", "python3"],
        versions: &["dovecot --version"],
        unprivileged: true,
        exercise: dovecot,
        ..USUAL
    },
];

fn mosquitto(run: &Run) -> Result<()> {
    const PAIRS: usize = 4;
    const MESSAGES: usize = 2000;
    let [port] = run.ports()?;
    let configuration = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nlog_dest stderr\nlog_type subscribe\n"
    );
    let configuration = run.write("mosquitto.conf", &configuration)?;
    let server = run.server("mosquitto").arg("-c").arg(configuration).listen(port)?;
    let options = |topic: usize| format!("-h 127.0.0.1 -p {port} -q 1 -t compat/{topic}");
    let subscribe =
        |topic: usize| run.client("mosquitto_sub").line(&format!("{} -C {MESSAGES}", options(topic))).start();
    let subscribers: Result<Vec<_>> = (0..PAIRS).map(subscribe).collect();
    wait::until("all have subscribed", Duration::from_secs(30), || {
        let log = server.output();
        Ok((0..PAIRS).all(|topic| log.lines().any(|line| line.ends_with(&format!(" compat/{topic}")))))
    })?;

    let text = |topic: usize| -> String {
        (0..MESSAGES).map(|number| format!("{number} of {topic} {}\n", "x".repeat(number % 500))).collect()
    };
    let publish = |topic: usize| -> Result<Process> {
        let mut publisher = run.client("mosquitto_pub").line(&options(topic)).arg("-l").piped().start()?;
        publisher.input(text(topic).as_bytes())?;
        publisher.end_input();
        Ok(publisher)
    };
    let publishers: Result<Vec<_>> = (0..PAIRS).map(publish).collect();
    publishers?.into_iter().try_for_each(|publisher| publisher.success().map(drop))?;
    for (topic, subscriber) in subscribers?.into_iter().enumerate() {
        let received = subscriber.success()?.stdout;
        ensure!(received == text(topic), "topic {topic} brought something else");
    }
    Ok(())
}

fn rabbitmq(run: &Run) -> Result<()> {
    let ([port], [names, nodes]) = (run.ports()?, run.unwatched_ports()?);
    // Otherwise the node starts it as a daemon, which would outlive the run.
    let names_port = names.to_string();
    let _names = run.server("epmd").line("-address 127.0.0.1 -port").arg(&names_port).listen(names)?;
    let dir = run.dir();
    // Debian's own command insists on root or its own user; what it starts does not.
    let mut server = run.server("env").arg("/usr/lib/rabbitmq/bin/rabbitmq-server").env("HOME", &dir);
    for (name, value) in [
        ("ERL_EPMD_PORT", names_port),
        ("RABBITMQ_NODENAME", "compat@localhost".to_owned()),
        ("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1".to_owned()),
        ("RABBITMQ_NODE_PORT", port.to_string()),
        ("RABBITMQ_DIST_PORT", nodes.to_string()),
        ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}".to_owned()),
        ("RABBITMQ_MNESIA_BASE", format!("{dir}/data")),
        ("RABBITMQ_LOG_BASE", format!("{dir}/log")),
        ("RABBITMQ_LOGS", "-".to_owned()),
        ("RABBITMQ_PID_FILE", format!("{dir}/pid")),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", format!("{dir}/plugins")),
        ("RABBITMQ_CONFIG_FILE", format!("{dir}/none")),
        ("RABBITMQ_CONF_ENV_FILE", "/dev/null".to_owned()),
    ] {
        server = server.env(name, value);
    }
    let _server = server.listen(port)?;
    let client = run.client("python3").arg(script("amqp.py")).arg(port.to_string()).run()?;
    expect_line(&client, "verified 3000")
}

fn nats(run: &Run) -> Result<()> {
    let [port] = run.ports()?;
    let _server = run.server("nats-server").line(&format!("-a 127.0.0.1 -p {port}")).listen(port)?;
    let client = run.client("python3").arg(script("nats.py")).arg(port.to_string()).run()?;
    expect_line(&client, "verified 5000")
}

/// Dovecot gives its processes an environment of its own and little address space; both are for its users to change. Who
/// logs in is passed from one process to another.
fn dovecot(run: &Run) -> Result<()> {
    let [port] = run.ports()?;
    let dir = run.dir();
    let who = |what: &str| anyhow::Ok(run.client("id").line(what).run()?.stdout.trim().to_owned());
    let (user, group, uid, gid) = (who("-un")?, who("-gn")?, who("-u")?, who("-g")?);
    let settings = format!(
        "protocols = imap\nlisten = 127.0.0.1\nssl = no\ndisable_plaintext_auth = no\nlog_path = /dev/stderr
base_dir = {dir}/run\nstate_dir = {dir}/run\nmail_location = maildir:{dir}/mail\nfirst_valid_uid = 1
default_internal_user = {user}\ndefault_internal_group = {group}\ndefault_login_user = {user}
import_environment = TZ LD_PRELOAD\ndefault_vsz_limit = 0
service imap-login {{\n  chroot =\n  inet_listener imap {{\n    port = {port}\n  }}
  inet_listener imaps {{\n    port = 0\n  }}\n}}
service anvil {{\n  chroot =\n}}\nservice stats {{\n  chroot =\n}}
passdb {{\n  driver = static\n  args = nopassword=y\n}}
userdb {{\n  driver = static\n  args = uid={uid} gid={gid} home={dir}/mail\n}}\n"
    );
    let configuration = run.write("dovecot.conf", &settings)?;
    let _server = run.server("dovecot").line("-F -c").arg(configuration).listen(port)?;
    let client = run.client("python3").arg(script("imap.py")).arg(port.to_string()).run()?;
    expect_line(&client, "verified 100")
}
