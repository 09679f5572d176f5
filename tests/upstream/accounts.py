"""Who asks: tokens and the session cookie; and the answers that are one user's own."""

from __future__ import annotations

from http.cookies import CookieError, SimpleCookie

from tests.upstream import bodies
from tests.upstream.packages import timestamp
from tests.upstream.routes import NO_STORE, Call, Routes, answer
from tests.upstream.wire import Headers, Refusal, Reply, http_date

OLD_TOKEN = (
    "The given API token does not match the format used by crates.io. Tokens generated before 2020-07-14 were "
    "generated with an insecure random number generator, and have been revoked."
)


def login(call: Call, *, token: bool = True, cookie: bool = True) -> str:
    """The login of whoever asks. The cookie wins over the token. Raises Refusal, in crates.io's words."""
    session = _session(call)
    if session in call.registry.sessions and cookie:
        return call.registry.sessions[session]
    given = call.request.header("authorization")
    if not given:
        raise Refusal(403, "this action requires authentication")
    scheme, space, secret = given.partition(" ")
    if not space:
        scheme, secret = "", given
    if scheme.lower() not in ("", "bearer"):
        detail = f"Invalid `Authorization` header: Found unexpected authentication scheme `{scheme}`"
        raise Refusal(401, detail)
    secret = secret.strip()
    if not secret.startswith("cio"):
        raise Refusal(401, OLD_TOKEN)
    if secret not in call.registry.tokens:
        raise Refusal(403, "authentication failed")
    if not token:
        raise Refusal(403, "this action can only be performed on the crates.io website")
    return call.registry.tokens[secret]


def throttled(call: Call, who: str, doing: str) -> None:
    """Raises Refusal while the registry's `throttled` says that `who` may not change anything yet."""
    until = call.registry.throttled.get(who, 0.0)
    if until > call.registry.clock():
        when = http_date(until)
        detail = (
            f"You have {doing} in a short period of time. Please try again after {when} "
            "and see https://crates.io/docs/rate-limits for more details."
        )
        raise Refusal(429, detail, (("retry-after", when),))


def _session(call: Call) -> str:
    try:
        morsel = SimpleCookie(call.request.header("cookie")).get("cargo_session")
    except CookieError:
        return ""
    return morsel.value if morsel else ""


def me(call: Call) -> Reply:
    who = login(call, token=False)
    owned = [{"id": one.id, "name": one.name} for one in call.registry.packages.values() if who in one.owners]
    user = bodies.user(call.registry, who) | {"email": f"{who}@example.com", "email_verified": True}
    return answer({"user": user, "owned_crates": owned}, NO_STORE)


def updates(call: Call) -> Reply:
    who = login(call, token=False)
    followed = [one for one in call.registry.packages.values() if who in one.followers]
    shown = [bodies.version(call.registry, one, release) for one in followed for release in one.newest_first()]
    return answer({"versions": shown, "meta": {"more": False}}, NO_STORE)


def _token(number: int, name: str) -> dict[str, object]:
    return {
        "id": number,
        "name": name,
        "created_at": timestamp(1_704_067_200.0),
        "last_used_at": None,
        "crate_scopes": None,
        "endpoint_scopes": None,
        "expired_at": None,
    }


def tokens(call: Call) -> Reply:
    who = login(call, token=False)
    own = [secret for secret, owner in call.registry.tokens.items() if owner == who]
    return answer({"api_tokens": [_token(number, "sample") for number, _ in enumerate(own, 1)]}, NO_STORE)


def one_token(call: Call) -> Reply:
    login(call)
    return answer({"api_token": _token(int(call["id"]), "sample")}, NO_STORE)


def new_token(call: Call) -> Reply:
    who = login(call, token=False)
    secret = f"cioNewTokenNumber{len(call.registry.tokens):015d}"
    call.registry.tokens[secret] = who
    name = call.json().get("api_token", {}).get("name", "new")
    return answer({"api_token": _token(len(call.registry.tokens), name) | {"token": secret}}, NO_STORE)


def revoke(call: Call) -> Reply:
    login(call, cookie=False)
    call.registry.tokens.pop(call.request.header("authorization").rpartition(" ")[2].strip())
    return Reply(204)


def revoke_one(call: Call) -> Reply:
    login(call)
    return answer({})


def invitations(call: Call) -> Reply:
    who = login(call, token=False)
    waiting = [one for one in call.registry.packages.values() if who in one.invited]
    shown = [{"crate_id": one.id, "crate_name": one.name, "expires_at": timestamp(2e9)} for one in waiting]
    return answer({"crate_owner_invitations": shown, "users": []}, NO_STORE)


def accept(call: Call) -> Reply:
    who = login(call)
    for package in call.registry.packages.values():
        if str(package.id) == call["id"] and who in package.invited:
            call.registry.accept(package.name, who)
            return answer({"crate_owner_invitation": {"crate_id": package.id, "accepted": True}})
    raise Refusal(404, "Not Found")


def done(call: Call) -> Reply:
    login(call)
    return answer({"ok": True})


def configs(call: Call) -> Reply:
    login(call)
    return answer({call["kind"]: [], "meta": {"total": 0, "next_page": None}}, NO_STORE)


def exchange(call: Call) -> Reply:
    """A trusted publisher's JWT for a token: no credentials in the head, a secret in the answer."""
    if not call.json().get("jwt"):
        raise Refusal(400, "Missing `jwt` field")
    return answer({"token": "cio_tp_SampleOfTrustedPublishing"})


def begin(call: Call) -> Reply:
    """The start of a log-in: the one answer here with a Set-Cookie."""
    cookie: Headers = (("set-cookie", "cargo_session=begun; HttpOnly; SameSite=Strict; Secure; Path=/"),)
    return answer({"url": "https://github.example.com/login/oauth/authorize", "state": "sample"}, cookie + NO_STORE)


ROUTES: Routes = (
    ("GET", "/api/v1/me", me),
    ("GET", "/api/v1/me/updates", updates),
    ("GET", "/api/v1/me/tokens", tokens),
    ("PUT", "/api/v1/me/tokens", new_token),
    ("GET", "/api/v1/me/tokens/{id}", one_token),
    ("DELETE", "/api/v1/me/tokens/{id}", revoke_one),
    ("DELETE", "/api/v1/tokens/current", revoke),
    ("GET", "/api/v1/me/crate_owner_invitations", invitations),
    ("PUT", "/api/v1/me/crate_owner_invitations/{id}", accept),
    ("PUT", "/api/v1/me/email_notifications", done),
    ("PUT", "/api/v1/users/{id}/resend", done),
    ("PUT", "/api/v1/users/{id}", done),
    ("POST", "/api/v1/trusted_publishing/tokens", exchange),
    ("DELETE", "/api/v1/trusted_publishing/tokens", lambda call: Reply(204)),
    ("GET", "/api/v1/trusted_publishing/{kind}", configs),
    ("POST", "/api/v1/trusted_publishing/{kind}", done),
    ("GET", "/api/private/session/begin", begin),
)
