# SPDX-License-Identifier: LGPL-2.1-or-later
"""A plain migration by QMP, without qmig: the reference, and the launcher's own test."""
import time

from .cleanup import VmError


def migrate(pair, uri=None, timeout=60.0, capabilities=(), parameters=None, cont=False):
    """Migrate and wait for "completed"; return the source's query-migrate.

    Both sides stand still afterwards, unless cont: then the destination runs.
    By TCP over the pair's link if it has one, else by a unix socket.
    """
    if uri is None:
        uri = (f"tcp:{pair.link.dst_addr}:4444" if pair.link
               else f"unix:{pair.dir}/migrate.sock")
    on = [{"capability": name, "state": True} for name in {"return-path", *capabilities}]
    pair.src.qmp_cmd("migrate-set-capabilities", capabilities=on)
    parameters = {"max-bandwidth": 0, **(parameters or {})}
    pair.src.qmp_cmd("migrate-set-parameters", **parameters)
    pair.dst.qmp_cmd("migrate-set-capabilities", capabilities=[
        {"capability": "late-block-activate", "state": True},
        *(item for item in on if item["capability"] in capabilities)])
    pair.dst.qmp_cmd("migrate-incoming", uri=uri)
    pair.src.qmp_cmd("migrate", uri=uri)
    info = wait_end(pair.src, timeout)
    if info["status"] != "completed":
        raise VmError(f"migration {info['status']}: {info.get('error-desc')}; "
                      f"{pair.src.stderr_text()}{pair.dst.stderr_text()}")
    if cont:
        pair.dst.qmp_cmd("cont")
    return info


def wait_end(side, timeout):
    """query-migrate of the end; "still …" as status when time is over."""
    deadline = time.monotonic() + timeout
    while True:
        info = side.qmp_cmd("query-migrate", max(1.0, deadline - time.monotonic()))
        if info.get("status") in ("completed", "failed", "cancelled"):
            return info
        if time.monotonic() > deadline:
            return {**info, "status": f"still {info.get('status')}"}
        time.sleep(0.002)
