"""THE TABLE of attacks: what is tried, what this proxy must do, and which tests show it. `python -m tests.attacks`
prints it; a test holds that each of the tests is there.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Attack:
    """`tests`: files below `tests`, with the name of a test behind `::` where it is not the whole file."""

    name: str
    duty: str
    tests: tuple[str, ...]


ATTACKS = (
    Attack(
        "poison by a field that no key holds",
        "of a client's fields only what cannot change the answer, or is in the key, goes upstream",
        (
            "attacks/test_poison.py::test_a_field_that_no_key_holds_goes_nowhere_and_changes_nothing",
            "attacks/test_poison.py::test_a_field_that_may_be_heard_changes_nothing_for_the_next",
            "rules/test_headers.py",
        ),
    ),
    Attack(
        "poison by own addresses",
        "own URLs only for hosts that the settings allow, and never stored",
        (
            "attacks/test_poison.py::test_nobody_is_told_an_address_that_another_client_made_up",
            "scenarios/test_answers.py::test_own_addresses_are_given_for_known_hosts_only",
            "rules/test_addresses.py",
        ),
    ),
    Attack(
        "poison by a query",
        "the key is the canonical query, and what goes upstream is the key; no body of a read is passed on",
        (
            "attacks/test_poison.py::test_queries_share_an_entry_only_where_upstream_hears_the_same",
            "attacks/test_poison.py::test_a_body_of_a_read_goes_nowhere",
            "rules/test_paths.py",
        ),
    ),
    Attack(
        "poison by a method",
        "no override is heard; HEAD is not stored as GET; TRACE, PURGE and the like go nowhere",
        (
            "attacks/test_poison.py::test_another_method_changes_nothing_for_the_next",
            "attacks/test_poison.py::test_a_field_that_no_key_holds_goes_nowhere_and_changes_nothing",
            "rules/test_routes.py",
        ),
    ),
    Attack(
        "denial by a large head (CPDoS)",
        "own limits on heads, and no refusal is stored",
        ("attacks/test_poison.py::test_a_head_that_upstream_would_refuse_is_not_what_the_next_one_gets",),
    ),
    Attack(
        "denial by meta characters (CPDoS)",
        "control characters are refused",
        ("attacks/test_poison.py::test_control_characters_go_nowhere", "server/test_guard.py"),
    ),
    Attack(
        "errors kept",
        "never 400, 401, 403, 405, 408, 413, 414, 429, 431 or 5xx; absences shortly and apart",
        (
            "attacks/test_poison.py::test_an_error_is_never_what_the_next_one_gets",
            "rules/test_storing.py::test_what_a_shared_cache_may_store",
            "scenarios/test_other.py::test_play",
        ),
    ),
    Attack(
        "deception: a private path in disguise",
        "the table of routes decides, never a suffix; what is private is never stored",
        ("attacks/test_private.py::test_no_spelling_of_a_private_path_makes_it_public",),
    ),
    Attack(
        "another's private answer",
        "requests with credentials never join and what they bring never stays; no cookie is stored or sent on",
        (
            "attacks/test_private.py::test_two_who_ask_for_their_own_at_once_each_get_it",
            "attacks/test_private.py::test_what_upstream_answers_to_a_token_goes_to_who_has_it",
            "attacks/test_private.py::test_credentials_go_to_the_api_alone_and_never_with_what_is_public",
            "attacks/test_reach.py::test_a_cookie_of_upstreams_is_nobodys",
        ),
    ),
    Attack(
        "a secret left behind",
        "no token in a log, a store, a key, a metric, an error or a traceback",
        ("attacks/test_leaks.py", "rules/test_secrets.py"),
    ),
    Attack(
        "request smuggling",
        "one parser; what it could read in two ways is refused; requests upstream are built anew",
        (
            "attacks/test_smuggling.py",
            "server/test_guard.py::test_a_head_that_is_too_much_or_could_mean_two_things_is_refused",
            "server/test_protocol.py",
        ),
    ),
    Attack(
        "response smuggling by upstream",
        "what follows an answer, is another's, or has two lengths, ends the connection and is nobody's answer; what "
        "nobody here judges comes over a connection of its own",
        (
            "attacks/test_reach.py::test_an_answer_that_came_too_late_for_its_own_question_answers_no_other",
            "test_http_upstream.py::test_nobody_is_answered_over_the_connection_of_an_answer_that_was_not_believed",
            "test_http_upstream.py::test_what_goes_straight_through_has_a_connection_of_its_own",
            "rules/test_bodies.py",
            "test_http_upstream.py::test_bytes_behind_an_answer_are_never_the_answer_to_the_next_request",
            "test_http_upstream.py::test_a_head_that_could_mean_two_things_is_no_answer",
        ),
    ),
    Attack(
        "Host, absolute form, CONNECT, *",
        "one Host; other authorities are refused; upstream's host never changes",
        (
            "server/test_guard.py::test_a_head_that_is_too_much_or_could_mean_two_things_is_refused",
            "attacks/test_reach.py::test_no_url_of_a_client_leads_anywhere_else",
        ),
    ),
    Attack(
        "two spellings of a path",
        "one canonical form for key and upstream; what has two meanings is refused",
        ("attacks/test_meaning.py", "rules/test_paths.py", "rules/test_keys.py"),
    ),
    Attack(
        "breaking out of a head (response splitting)",
        "no field of an answer holds a line break, wherever it comes from",
        (
            "attacks/test_reach.py::test_nothing_of_a_url_breaks_out_into_a_head",
            "stores/test_codec.py::test_facts_that_cannot_be_are_no_entry",
            "test_http_upstream.py::test_a_head_that_could_mean_two_things_is_no_answer",
        ),
    ),
    Attack(
        "markup in a URL (cross-site scripting)",
        "pages escape what they show and run no script but their own; foreign READMEs get no origin",
        (
            "attacks/test_reach.py::test_nothing_of_a_url_becomes_markup_of_a_page",
            "scenarios/test_downloads.py::test_a_client_that_accepts_json_is_given_an_address_of_this_proxy",
        ),
    ),
    Attack(
        "abuse of ranges",
        "one range, from the whole; a part is never stored as the whole, and costs one fetch",
        (
            "attacks/test_poison.py::test_a_part_is_never_taken_for_the_whole",
            "attacks/test_poison.py::test_a_part_that_upstream_gives_is_not_stored",
            "rules/test_ranges.py",
        ),
    ),
    Attack(
        "slow heads, slow bodies, slow readers, many connections",
        "deadlines, floors and caps, and others do not feel it",
        ("attacks/test_slow.py", "server/test_guard.py"),
    ),
    Attack(
        "decompression bombs",
        "what is coded is relayed as it is; what has to be read is read up to a bound",
        (
            "attacks/test_reach.py::test_a_bomb_is_not_unpacked",
            "attacks/test_reach.py::test_unpacking_takes_no_more_than_it_is_allowed",
            "stores/test_zstandard.py",
        ),
    ),
    Attack(
        "redirects into the network (SSRF)",
        "none is followed; none gets credentials",
        (
            "attacks/test_reach.py::test_upstream_sends_it_nowhere",
            "test_http_upstream.py::test_cookies_are_not_kept_and_redirects_not_followed",
        ),
    ),
    Attack(
        "collisions of hashes, confusion of keys",
        "the whole key is stored and compared",
        (
            "stores/test_envelope.py",
            "stores/test_redis.py::test_an_answer_meant_for_another_key_is_a_miss_and_drops_every_connection",
        ),
    ),
    Attack(
        "bodies too large, endless or cut short",
        "bounded while they come; never stored and never taken for whole",
        (
            "scenarios/test_downloads.py::test_wrong_bytes_are_never_stored_and_never_look_whole",
            "scenarios/test_downloads.py::test_a_file_too_large_for_the_cache_is_checked_and_passed_on",
            "scenarios/test_answers.py::test_what_is_no_answer_is_told_as_502_and_not_stored",
        ),
    ),
    Attack(
        "wrong bytes in a tarball, in transit or on the disk",
        "no byte leaves as a whole answer before its checksum is right",
        ("e2e/test_mangled.py", "stores/test_blobs.py::test_a_damaged_file_is_set_aside_when_it_is_verified"),
    ),
    Attack(
        "stampedes",
        "one request upstream for an object, whoever dies",
        ("e2e/test_herds.py", "engine/test_flight.py"),
    ),
    Attack(
        "filling the cache with nothing",
        "absences are bounded and push nothing out",
        ("attacks/test_exhaustion.py", "stores/test_memory.py"),
    ),
    Attack(
        "a stale answer pinned for ever",
        "ages and dates are clamped; a purge needs the token",
        (
            "rules/test_storing.py::test_an_answer_arrives_with_an_age",
            "rules/test_freshness.py",
            "scenarios/test_admin.py::test_without_the_token_nothing_is_purged",
        ),
    ),
    Attack(
        "using what is not for one",
        "networks, read_only and the admin token hold; only trusted front servers are believed",
        ("scenarios/test_access.py", "scenarios/test_admin.py", "rules/test_clients.py"),
    ),
    Attack(
        "a tampered store, archive, lock file or feed",
        "nothing is unpickled, no name leads out of the directory, and nothing breaks",
        (
            "fuzz/test_fuzz.py",
            "stores/test_disk.py::test_a_pickle_in_a_row_is_absent_and_never_loaded",
            "engine/test_importing.py",
        ),
    ),
    Attack(
        "a name that leads into the file system",
        "no file is ever named after a URL",
        (
            "attacks/test_leaks.py::test_no_url_names_a_file",
            "stores/test_blobs.py::test_only_a_checksum_ever_names_a_file",
        ),
    ),
)


def printed() -> str:
    """As Markdown."""
    rows = [
        f"| {attack.name} | {attack.duty} | {'<br>'.join(f'`{test}`' for test in attack.tests)} |" for attack in ATTACKS
    ]
    return "\n".join(["| attack | what this proxy does | shown by |", "|---|---|---|", *rows])
