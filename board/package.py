"""The package: dpkg installs, upgrades, removes and purges it, as `apt install ./…deb` does once the dependencies are
installed."""
import re

from machine import PACKAGE, Failed
from report import passed

# Lists every file that the package may have left, other than logs.
REST = "find /etc /usr /var /run -xdev -iname '*constancy*' -not -path '/var/log/*'"


def install(daemon):
    board = daemon.board
    # By its full path: the shell is busybox, which has its own dpkg.
    board.run(f"/usr/bin/dpkg --install /{PACKAGE}")
    active = daemon.settled_state()
    if active != "active":
        raise Failed(f"after the installation the service is {active}: {daemon.log()}")
    daemon.wait_log('"schema":1', "no event in the journal with the installed configuration")
    passed("installed by dpkg", "the service runs the demonstration's configuration, an event is in the journal")
    verdict = board.run("systemd-analyze security constancy.service --no-pager | tail -n 1")
    level = float(re.search(r"service: ([0-9.]+)", verdict)[1])
    if level > 2.0:
        raise Failed(f"the installed unit's exposure level is {level}, expected 2.0 at most")
    passed("confinement", f"exposure level {level}; user {daemon.property('User') or 'allocated (DynamicUser)'}")
    text = board.run("cat /usr/share/bash-completion/completions/constancy | wc -l; ls /usr/share/man/man1 | grep -c constancy")
    lines, pages = text.split()
    passed("manual pages and completions", f"{pages} manual pages, {lines} lines of bash completion")


def upgrade(daemon):
    """Installs the same version again, which runs the same scripts as an upgrade: prerm upgrade, postinst configure."""
    board = daemon.board
    before = daemon.property("MainPID")
    changed = board.run("cat /etc/constancy/constancy.toml")
    board.run(f"/usr/bin/dpkg --install /{PACKAGE}")
    active = daemon.settled_state()
    after = daemon.property("MainPID")
    if active != "active" or after == before:
        raise Failed(f"after the upgrade the service is {active}, process {before} before and {after} now")
    if board.run("cat /etc/constancy/constancy.toml") != changed:
        raise Failed("the upgrade replaced an edited configuration")
    passed("upgraded by dpkg", "the edited configuration is kept, the service was restarted")


def purge(daemon):
    board = daemon.board
    board.run("/usr/bin/dpkg --remove constancy")
    left = board.run(REST).split()
    if "/etc/constancy/constancy.toml" not in left:
        raise Failed("removing the package deleted its configuration, which only purging may")
    if any(path.startswith("/usr") for path in left):
        raise Failed(f"removing the package left {left}")
    if board.run("systemctl is-active constancy", check=False) == "active":
        raise Failed("the package is removed, and the service still runs")
    board.run("/usr/bin/dpkg --purge constancy")
    left = board.run(REST).split()
    if left:
        raise Failed(f"purging the package left {left}")
    failed = board.run("systemctl --failed --plain --no-legend --no-pager | cat")
    if failed:
        raise Failed(f"failed units: {failed}")
    passed("removed and purged by dpkg", "nothing is left")
