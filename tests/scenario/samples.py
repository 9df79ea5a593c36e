"""The samples that are shipped can be used as they are (but for the certificate, which is the administrator's)."""
import os
import re
import shutil
import subprocess

from lib import BUILD, SOURCE, Server, need, run, scenario


def certificate(folder):
    cert, key = os.path.join(folder, "fullchain.pem"), os.path.join(folder, "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-days", "2", "-subj", "/CN=mx.example.org", "-keyout", key, "-out", cert], check=True,
                   capture_output=True)


@scenario
def etc_esp_conf_passes_the_check():
    with Server() as s:
        with open(os.path.join(SOURCE, "etc", "esp.conf")) as f:
            text = f.read()
        certificate(s.dir)
        text = text.replace("/etc/esp/tls", s.dir).replace('path = "/var/lib/esp";',
                                                           f'path = "{s.dir}/data"; module_dir = "{BUILD}/.libs";')
        s.write(text)
        done = s.run("check")
        assert done.code == 0, done.err


@scenario
def the_socket_unit_names_the_listeners_of_the_sample():
    with open(os.path.join(SOURCE, "etc", "esp.conf")) as f:
        listeners = set(re.findall(r'address = "([^"]+)"', f.read()))
    with open(os.path.join(SOURCE, "etc", "systemd", "esp.socket")) as f:
        assert set(re.findall(r"ListenStream=(\S+)", f.read())) == listeners


@scenario
def wrap_lines_touches_c_alone():
    with Server() as s:
        c, script, line = os.path.join(s.dir, "x.c"), os.path.join(s.dir, "x.py"), "/* " + "word " * 40 + "*/\n"
        for path in (c, script):
            with open(path, "w") as f:
                f.write(line)
        done = subprocess.run([os.path.join(SOURCE, "contrib", "wrap-lines"), c, script], capture_output=True, text=True)
        assert done.returncode == 2 and done.stdout.endswith(f"nothing was changed: {script}\n"), done
        for path in (c, script):
            with open(path) as f:
                assert f.read() == line, path


@scenario
def the_service_is_confined():
    need("systemd-analyze")
    with Server() as s:
        unit = shutil.copy(os.path.join(SOURCE, "etc", "systemd", "esp.service"), s.dir)
        done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager", unit], text=True, capture_output=True)
        level = re.search(r"exposure level for esp.service: ([\d.]+)", done.stdout)
        assert level and float(level[1]) <= 2.0, done.stdout[-400:] + done.stderr
        resources = re.search(r"SystemCallFilter=~@resources\b.*", done.stdout)
        assert "setpriority is allowed" in resources[0], resources[0]


@scenario
def the_service_stays_down_after_a_stop_and_comes_back_after_all_else():
    with open(os.path.join(SOURCE, "etc", "systemd", "esp.service")) as f:
        lines = f.read().splitlines()
    assert "Restart=on-failure" in lines and "StartLimitIntervalSec=0" in lines
    assert "RestartPreventExitStatus=3" in lines, "a crash while it stops does not start it again: it was asked to stop"
    assert lines.index("StartLimitIntervalSec=0") < lines.index("[Service]"), "not of [Unit]: systemd passes it over"


run()
