//! Databases: many clients move amounts between accounts, and the books must balance.

use std::fmt::Write as _;

use anyhow::{Result, ensure};
use preloop_tests::checksum::of_file;
use preloop_tests::launch::Launch;
use preloop_tests::process::{Finished, Process};
use rustix::process::Signal;

use crate::application::{Application, USUAL};
use crate::run::{Run, expect_line};
use crate::web::certificate;

const PGBENCH: &str = "pgbench: 8 connections move amounts; the sums of accounts, tellers, branches and history must agree; COPY of 6 MB there and back, SHA-256";

pub(crate) const APPLICATIONS: &[Application] = &[
    Application {
        name: "postgresql",
        does: PGBENCH,
        needs: &["postgres", "pgbench", "psql"],
        versions: &["postgres --version"],
        unprivileged: true,
        exercise: |run| postgres(run, false),
        ..USUAL
    },
    Application {
        name: "postgresql-ssl",
        does: PGBENCH,
        needs: &["postgres", "pgbench", "psql", "openssl"],
        versions: &["postgres --version", "openssl version"],
        unprivileged: true,
        exercise: |run| postgres(run, true),
        ..USUAL
    },
    Application {
        name: "pgbouncer",
        does: "server: pgbouncer, which pools transactions, client: postgres behind it and pgbench before it, as for postgresql",
        needs: &["pgbouncer", "postgres", "pgbench", "psql"],
        versions: &["pgbouncer --version", "postgres --version"],
        unprivileged: true,
        exercise: pgbouncer,
        ..USUAL
    },
    Application {
        name: "mariadb",
        does: "6 clients make 500 transfers each in transactions; the sums of accounts and of the log; a value of 4 MB there and back",
        needs: &["mariadbd", "mariadb-install-db", "mariadb"],
        versions: &["mariadbd --version"],
        unprivileged: true,
        exercise: mariadb,
        ..USUAL
    },
];

fn postgres(run: &Run, ssl: bool) -> Result<()> {
    let [port] = run.ports()?;
    let mut options = String::new();
    if ssl {
        certificate(run)?;
        let dir = run.dir();
        write!(options, "-c ssl=on -c ssl_cert_file={dir}/cert.pem -c ssl_key_file={dir}/key.pem")?;
    }
    let server = cluster(|program| run.server(program), port, &options)?;
    books(run, port, ssl)?;
    ensure!(server.signal(Signal::INT)?.status.success(), "the server ended badly");
    Ok(())
}

fn pgbouncer(run: &Run) -> Result<()> {
    let [front, back] = run.ports()?;
    let settings = format!(
        "[databases]\n* = host=127.0.0.1 port={back} user=compat\n[pgbouncer]\nlisten_addr = 127.0.0.1
listen_port = {front}\nauth_type = any\npool_mode = transaction\nunix_socket_dir =\n"
    );
    let configuration = run.write("pgbouncer.ini", &settings)?;
    let _behind = cluster(|program| run.client(program), back, "")?;
    let _server = run.server("pgbouncer").arg("-q").arg(configuration).listen(front)?;
    books(run, front, false)
}

/// Makes an empty database and starts its server.
fn cluster<'a>(launch: impl Fn(&str) -> Launch<'a>, port: u16, options: &str) -> Result<Process> {
    launch("initdb").line("-D data -A trust -U compat -E UTF8 --no-locale --no-sync").run()?;
    let usual = format!("-D data -p {port} -c listen_addresses=127.0.0.1 -c fsync=off");
    launch("postgres").line(&usual).line(options).args(["-c", "unix_socket_directories="]).listen(port)
}

/// Moves amounts, and adds them up.
fn books(run: &Run, port: u16, ssl: bool) -> Result<()> {
    let client = |program: &str| {
        let launch = run.client(program).line(&format!("-h 127.0.0.1 -p {port} -U compat"));
        launch.env("PGSSLMODE", if ssl { "require" } else { "disable" })
    };
    client("pgbench").line("-i -q -s 2 postgres").run()?;
    client("pgbench").line("-n -c 8 -j 2 -T 3 postgres").run()?;
    let sums =
        "select (select sum(abalance) from pgbench_accounts) = all(array[(select sum(tbalance) from pgbench_tellers),
        (select sum(bbalance) from pgbench_branches), (select sum(delta) from pgbench_history)]),
        (select count(*) > 0 from pgbench_history), (select ssl from pg_stat_ssl where pid = pg_backend_pid())";
    let query = |text: &str| client("psql").line("-X -A -t -v ON_ERROR_STOP=1 postgres -c").arg(text).run();
    expect_line(&query(sums)?, if ssl { "t|t|t" } else { "t|t|f" })?;
    copy(run, query)
}

/// Sends many rows and gets them back.
fn copy(run: &Run, query: impl Fn(&str) -> Result<Finished>) -> Result<()> {
    let rows: String = (0..200_000).map(|row| format!("{row}\t{}\n", scrambled(row))).collect();
    let sent = run.write("sent", &rows)?;
    query("create table copied (row int, text text)")?;
    query("\\copy copied from 'sent'")?;
    query("\\copy (select * from copied order by row) to 'received'")?;
    ensure!(of_file(&sent)? == of_file(&run.path("received"))?, "COPY gave back other rows");
    Ok(())
}

fn mariadb(run: &Run) -> Result<()> {
    const CLIENTS: u64 = 6;
    const TRANSFERS: u64 = 500;
    let [port] = run.ports()?;
    let dir = run.dir();
    run.server("mariadb-install-db")
        .line("--no-defaults --auth-root-authentication-method=normal")
        .arg(format!("--datadir={dir}/data"))
        .run()?;
    let options =
        format!("--no-defaults --datadir={dir}/data --socket={dir}/socket --bind-address=127.0.0.1 --port={port}");
    let server = run.server("mariadbd").line(&options).line("--max-allowed-packet=64M").listen(port)?;
    let client = || mariadb_client(run, port);
    client().arg("-e").arg(
        "create database compat; use compat; create table account (id int primary key, amount int not null) engine=innodb;
        create table log (amount int not null); insert into account select seq, 1000 from seq_1_to_100;
        create table file (body longblob)",
    ).run()?;

    let clients: Result<Vec<_>> = (0..CLIENTS)
        .map(|number| {
            run.write(&format!("transfers.{number}"), &transfers(number, TRANSFERS))?;
            client().arg("compat").arg("-e").arg(format!("source {dir}/transfers.{number}")).start()
        })
        .collect();
    clients?.into_iter().try_for_each(|client| client.success().map(drop))?;
    let moved: u64 = (0..CLIENTS * TRANSFERS).map(|number| amount(number % TRANSFERS)).sum();
    let sums = "select (select sum(amount) from account), count(*), sum(amount) from log";
    let expected = format!("100000\t{}\t{moved}", CLIENTS * TRANSFERS);
    expect_line(&client().args(["compat", "-e", sums]).run()?, &expected)?;

    let value: String = (0..500_000).map(scrambled).collect();
    run.write("blob", &format!("insert into file values (x'{value}');\n"))?;
    client().args(["compat", "-e"]).arg(format!("source {dir}/blob")).run()?;
    expect_line(&client().args(["compat", "-e", "select lower(hex(body)) from file"]).run()?, &value)?;
    server.signal(Signal::TERM)?;
    Ok(())
}

fn mariadb_client(run: &Run, port: u16) -> Launch<'_> {
    let options = format!("--no-defaults --protocol=tcp -h 127.0.0.1 -P {port} -u root -N -B --max-allowed-packet=64M");
    run.client("mariadb").line(&options)
}

fn amount(number: u64) -> u64 {
    number % 7 + 1
}

/// Transfers between pairs of accounts, always locked in the same order, so that none meets a deadlock.
fn transfers(client: u64, count: u64) -> String {
    let transfer = |number: u64| {
        let (from, amount) = ((number * 31 + client * 17) % 99 + 1, amount(number));
        format!(
            "start transaction; update account set amount = amount - {amount} where id = {from}; \
             update account set amount = amount + {amount} where id = {}; insert into log values ({amount}); commit;\n",
            from + 1
        )
    };
    (0..count).map(transfer).collect()
}

/// Sixteen hexadecimal digits that differ from number to number.
fn scrambled(number: u64) -> String {
    format!("{:016x}", (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
