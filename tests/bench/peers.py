"""The peers: nginx with `proxy_cache`, as its users configure it and tuned, and Varnish, each with one worker.

They mirror the same three hosts under the same paths as the proxy. What upstream says of freshness they believe;
where it is silent, on the API, an answer is fresh for five minutes, as in the proxy.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import Template

from tests.bench.processes import Running, found, free_port, serving

# The lines that a guide to proxy_cache has, and Debian's own of nginx.conf but for `tcp_nopush on`: the segments of
# a loopback hold 64 KB, and the last one of a file would wait 40 ms for an acknowledgement as on no user's network.
_NGINX = Template("""
daemon off;
worker_processes $workers;
$user
pid $dir/pid;
error_log $dir/error.log;
events { worker_connections 4096; }
http {
    sendfile on;
    types_hash_max_size 2048;
    gzip on;
    default_type application/octet-stream;
    client_body_temp_path $dir/body;
    proxy_temp_path $dir/proxy;
    fastcgi_temp_path $dir/fastcgi;
    uwsgi_temp_path $dir/uwsgi;
    scgi_temp_path $dir/scgi;
    proxy_cache_path $dir/cache levels=1:2 keys_zone=crates:64m max_size=50g inactive=7d use_temp_path=off;
    upstream api { server 127.0.0.1:$api; $keepalive }
    upstream index { server 127.0.0.1:$index; $keepalive }
    upstream static { server 127.0.0.1:$static; $keepalive }
    $tuned
    server {
        listen 127.0.0.1:$port backlog=2048 $reuseport;
        proxy_cache crates;
        proxy_cache_valid 200 5m;
        proxy_cache_lock on;
        proxy_cache_revalidate on;
        proxy_cache_background_update on;
        proxy_cache_use_stale error timeout updating http_500 http_502 http_503 http_504;
        add_header X-Cache $$upstream_cache_status;
        location = /index/config.json {
            default_type application/json;
            return 200 '{"dl": "http://$$http_host/files/crates/{crate}/{crate}-{version}.crate", "api": "http://$$http_host"}';
        }
        location /api/ { proxy_pass http://api; }
        location /index/ { proxy_pass http://index/; }
        location /files/ { proxy_pass http://static/; }
    }
}
""")

_AS_USED = "access_log $dir/access.log;"
_TUNED = """
    access_log off;
    open_file_cache max=100000 inactive=10m;
    open_file_cache_valid 10m;
    keepalive_requests 100000000;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
"""

_VARNISH = Template("""
vcl 4.1;
backend api { .host = "127.0.0.1"; .port = "$api"; }
backend index { .host = "127.0.0.1"; .port = "$index"; }
backend static { .host = "127.0.0.1"; .port = "$static"; }
sub vcl_recv {
    set req.backend_hint = api;
    if (req.url == "/index/config.json") { return (synth(200)); }
    if (req.url ~ "^/index/") {
        set req.backend_hint = index;
        set req.url = regsub(req.url, "^/index", "");
    } elsif (req.url ~ "^/files/") {
        set req.backend_hint = static;
        set req.url = regsub(req.url, "^/files", "");
    }
}
sub vcl_synth {
    if (resp.status == 200) {
        set resp.http.Content-Type = "application/json";
        set resp.body = {"{"dl": "http://"} + req.http.Host + {"/files/crates/{crate}/{crate}-{version}.crate", "api": "http://"}
            + req.http.Host + {"" } "};
        return (deliver);
    }
}
sub vcl_backend_response {
    if (!beresp.http.Cache-Control) { set beresp.ttl = 5m; }
}
sub vcl_deliver {
    if (obj.hits > 0) { set resp.http.X-Cache = "HIT"; } else { set resp.http.X-Cache = "MISS"; }
}
""")


@contextlib.contextmanager
def nginx(directory: Path, upstream: Sequence[int], core: int, *, tuned: bool, workers: int = 1) -> Iterator[Running]:
    """`upstream`: the ports of API, index and static host."""
    binary, port = found("nginx", "nginx"), free_port()
    directory.mkdir()
    api, index, static = upstream
    text = _NGINX.substitute(
        dir=directory,
        port=port,
        workers=workers,
        reuseport="reuseport" if workers > 1 else "",  # a queue of its own for each, as here
        api=api,
        index=index,
        static=static,
        keepalive="keepalive 64;" if tuned else "",
        tuned=_TUNED if tuned else Template(_AS_USED).substitute(dir=directory),
        # Its workers could not enter a directory that is root's alone.
        user="user root;" if os.geteuid() == 0 else "",
    )
    (directory / "nginx.conf").write_text(text)
    command = [binary, "-c", str(directory / "nginx.conf"), "-e", str(directory / "error.log")]
    with serving(command, directory / "said.log", core=core, port=port) as running:
        yield running


@contextlib.contextmanager
def varnish(directory: Path, upstream: Sequence[int], core: int) -> Iterator[Running]:
    binary, port = found("varnishd", "varnish"), free_port()
    directory.mkdir()
    api, index, static = upstream
    (directory / "mirror.vcl").write_text(_VARNISH.substitute(api=api, index=index, static=static))
    command = [binary, "-F", "-j", "none", "-n", str(directory / "work"), "-a", f"127.0.0.1:{port}"]
    command += ["-f", str(directory / "mirror.vcl"), "-s", "malloc,8g", "-p", "thread_pools=1"]
    with serving(command, directory / "said.log", core=core, port=port) as running:
        yield running
