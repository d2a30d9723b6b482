//! Message brokers: what subscribers receive must be what publishers sent.

use std::time::Duration;

use anyhow::{Result, ensure};
use preloop_tests::process::Process;
use preloop_tests::wait;

use crate::application::{Application, USUAL};
use crate::run::{Run, expect_line, script};

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
        name: "nats-server",
        does: "a subscriber gets 5000 messages of up to 20 kB from a publisher, compared byte by byte",
        needs: &["nats-server", "python3"],
        versions: &["nats-server --version"],
        stays: Some("nats-server is written in Go, which cannot be preloaded"),
        exercise: nats,
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

fn nats(run: &Run) -> Result<()> {
    let [port] = run.ports()?;
    let _server = run.server("nats-server").line(&format!("-a 127.0.0.1 -p {port}")).listen(port)?;
    let client = run.client("python3").arg(script("nats.py")).arg(port.to_string()).run()?;
    expect_line(&client, "verified 5000")
}
