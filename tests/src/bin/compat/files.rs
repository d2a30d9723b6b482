//! Programs that carry files.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use anyhow::{Result, ensure};
use preloop_tests::checksum::{expect_file, random_file};
use preloop_tests::tools::redis;

use crate::application::{Application, Expected, USUAL};
use crate::run::{Run, expect_line, script};

pub(crate) const APPLICATIONS: &[Application] = &[
    Application {
        name: "rsync",
        does: "its daemon: 40 files up to 8 MB there and back; SHA-256 of each",
        needs: &["rsync"],
        versions: &["rsync --version"],
        exercise: rsync,
        ..USUAL
    },
    Application {
        name: "git",
        does: "its daemon: push, clone and fsck of 20 MB in 10 commits; the same head",
        needs: &["git"],
        versions: &["git --version"],
        exercise: git,
        ..USUAL
    },
    Application {
        name: "openssh",
        does: "login; scp of 20 MB there and back, SHA-256; redis-benchmark through a forwarded port, no error replies",
        needs: &["sshd", "ssh", "scp", "ssh-keygen", "redis-server", "redis-benchmark", "redis-cli"],
        versions: &["ssh -V"],
        expected: Expected::Tcp(
            "sshd starts itself anew for each connection, over exec, and confines itself by seccomp",
        ),
        exercise: openssh,
        ..USUAL
    },
    Application {
        name: "vsftpd",
        does: "4 clients store 25 files of up to 1 MB each and retrieve them, compared byte by byte",
        needs: &["vsftpd", "python3"],
        versions: &["vsftpd -v"],
        expected: Expected::Either("its processes forbid themselves descriptors and system calls"),
        exercise: vsftpd,
        ..USUAL
    },
];

fn rsync(run: &Run) -> Result<()> {
    const FILES: u64 = 40;
    let [port] = run.ports()?;
    for dir in ["sent", "kept", "received"] {
        fs::create_dir(run.path(dir))?;
    }
    let file =
        |number: u64| random_file(&run.path("sent").join(number.to_string()), 1 << (number * 23 / FILES), number);
    let sums: Result<Vec<_>> = (0..FILES).map(file).collect();
    let owner = if rustix::process::geteuid().is_root() { "uid = root\ngid = root\n" } else { "" };
    let module = format!("use chroot = no\n{owner}[kept]\npath = {}/kept\nread only = no\n", run.dir());
    let configuration = run.write("rsyncd.conf", &module)?;
    let daemon = format!("--daemon --no-detach --address=127.0.0.1 --port={port} --config");
    let _server = run.server("rsync").line(&daemon).arg(configuration).listen(port)?;
    let url = format!("rsync://127.0.0.1:{port}/kept/");
    run.client("rsync").args(["-a", "sent/", &url]).run()?;
    run.client("rsync").args(["-a", &url, "received/"]).run()?;
    for (number, sent) in sums?.iter().enumerate() {
        expect_file(&run.path("received").join(number.to_string()), sent)?;
    }
    Ok(())
}

fn git(run: &Run) -> Result<()> {
    let [port] = run.ports()?;
    let git = |args: &str| {
        let launch = run.client("git").env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        launch.line("-c user.name=compat -c user.email=compat@localhost -c init.defaultBranch=main").line(args)
    };
    git("init -q --bare base/kept").run()?;
    git("init -q work").run()?;
    for commit in 0..10 {
        for file in 0..6 {
            random_file(&run.path("work").join(format!("file{file}")), 350_000, commit * 6 + file)?;
        }
        git("-C work add .").run()?;
        git(&format!("-C work commit -q -m {commit}")).run()?;
    }
    let daemon = "daemon --export-all --enable=receive-pack --reuseaddr --base-path=base --listen=127.0.0.1";
    let server = run.server("git").env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", run.dir()).line(daemon);
    let _server = server.arg(format!("--port={port}")).listen(port)?;
    let url = format!("git://127.0.0.1:{port}/kept");
    git(&format!("-C work push -q {url} main")).run()?;
    git(&format!("clone -q {url} copy")).run()?;
    git("-C copy fsck --strict").run()?;
    let head = |dir: &str| Ok::<_, anyhow::Error>(git(&format!("-C {dir} rev-parse HEAD")).run()?.stdout);
    ensure!(head("work")? == head("copy")?, "the heads differ");
    Ok(())
}

fn openssh(run: &Run) -> Result<()> {
    let ([port], [forwarded, redis_port]) = (run.ports()?, run.unwatched_ports()?);
    let dir = run.dir();
    for key in ["host", "user"] {
        run.client("ssh-keygen").line(&format!("-q -t ed25519 -f {key}")).args(["-N", ""]).run()?;
    }
    let configuration = format!(
        "ListenAddress 127.0.0.1\nPort {port}\nHostKey {dir}/host\nAuthorizedKeysFile {dir}/user.pub\nPidFile none
StrictModes no\nUsePAM no\nPermitRootLogin yes\nSubsystem sftp internal-sftp\n"
    );
    let configuration = run.write("sshd_config", &configuration)?;
    if rustix::process::geteuid().is_root() {
        // As its service does: an empty directory for the unprivileged half of the server.
        fs::create_dir_all("/run/sshd")?;
    }
    let _sshd = run.server("sshd").line("-D -e -f").arg(configuration).listen(port)?;
    let options =
        format!("-F none -i {dir}/user -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR");
    let ssh = |more: &str| run.client("ssh").line(&options).line(&format!("-p {port} {more} 127.0.0.1"));

    expect_line(&ssh("").arg("seq 200000 | tail -n 1").run()?, "200000")?;
    let sent = random_file(&run.path("sent"), 20_000_000, 20)?;
    let scp = |from: &str, to: &str| run.client("scp").line(&options).line(&format!("-q -P {port} {from} {to}")).run();
    scp("sent", &format!("127.0.0.1:{dir}/kept"))?;
    scp(&format!("127.0.0.1:{dir}/kept"), "received")?;
    expect_file(&run.path("received"), &sent)?;

    let _redis = redis::server(run.scene(), redis_port).listen(redis_port)?;
    let _tunnel = ssh(&format!("-N -L 127.0.0.1:{forwarded}:127.0.0.1:{redis_port}")).listen(forwarded)?;
    redis::benchmark(run.scene(), forwarded, "-c 20 -n 20000 -d 1000 -t set,get").run()?;
    let stats = run.client("redis-cli").line(&format!("-h 127.0.0.1 -p {forwarded} info stats")).run()?.stdout;
    ensure!(stats.contains("total_error_replies:0"), "redis refused requests:\n{stats}");
    Ok(())
}

fn vsftpd(run: &Run) -> Result<()> {
    let [port] = run.ports()?;
    let dir = run.dir();
    let kept = run.path("root").join("kept");
    fs::create_dir_all(&kept)?;
    fs::set_permissions(&kept, Permissions::from_mode(0o777))?;
    // As root it parts into a process that has no rights and one that opens sockets for it.
    let alone = if rustix::process::geteuid().is_root() { "" } else { "run_as_launching_user=YES\n" };
    fs::create_dir(run.path("empty"))?;
    let settings = format!(
        "background=NO\nlisten=YES\nlisten_address=127.0.0.1\nlisten_port={port}\nsecure_chroot_dir={dir}/empty
anonymous_enable=YES\nno_anon_password=YES\nanon_root={dir}/root\nwrite_enable=YES\nanon_upload_enable=YES
anon_world_readable_only=NO\nanon_umask=022\nxferlog_enable=NO\n{alone}"
    );
    let configuration = run.write("vsftpd.conf", &settings)?;
    let _server = run.server("vsftpd").arg(configuration).listen(port)?;
    let client = run.client("python3").arg(script("ftp.py")).arg(port.to_string()).run()?;
    expect_line(&client, "verified 100")
}
