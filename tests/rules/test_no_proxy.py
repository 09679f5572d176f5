from __future__ import annotations

from collections.abc import Mapping

import pytest

from proxy.rules import no_proxy

Environ = Mapping[str, str]


@pytest.mark.parametrize(
    ("scheme", "environ", "found"),
    [
        ("http", {}, ("", "")),
        ("http", {"http_proxy": "p:1"}, ("p:1", "http_proxy")),
        ("http", {"HTTP_PROXY": "p:1"}, ("", "")),  # what a CGI program is told by a stranger
        ("http", {"https_proxy": "p:1", "ALL_PROXY": "q:1"}, ("q:1", "ALL_PROXY")),
        ("https", {"HTTPS_PROXY": "p:1", "all_proxy": "q:1"}, ("p:1", "HTTPS_PROXY")),
        ("https", {"https_proxy": "", "HTTPS_PROXY": "p:1"}, ("p:1", "HTTPS_PROXY")),
    ],
)
def test_the_variables_of_libcurl_name_the_proxy(
    scheme: str, environ: Mapping[str, str], found: tuple[str, str]
) -> None:
    assert no_proxy.proxy_of(scheme, environ) == found


@pytest.mark.parametrize(
    ("host", "told", "exempt"),
    [
        ("mirror.example.org", "", False),
        ("mirror.example.org", "*", True),
        ("mirror.example.org", "example.org", True),
        ("mirror.example.org", "other, .example.org", True),
        ("Mirror.Example.org.", "EXAMPLE.ORG", True),
        ("mirrorexample.org", "example.org", False),
        ("mirror.example.org", ".", False),
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "11.0.0.0/8 example.org", False),
        ("[::1]", "::1", True),
    ],
)
def test_no_proxy_takes_out_names_with_all_below_them_and_networks(host: str, told: str, exempt: bool) -> None:
    assert no_proxy.exempt(host, {"no_proxy": told}) is exempt
    assert no_proxy.exempt(host, {"NO_PROXY": told}) is exempt
