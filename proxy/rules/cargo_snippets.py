"""What to write where so that cargo, a container or a CI job uses this proxy: texts to copy, for one address.

Pure. cargo reads no source replacement from the environment (checked with 1.95), so each of them writes a file, but for
those that say what they are good for.
"""

from __future__ import annotations

from dataclasses import dataclass

from proxy.rules import cargo_lines


@dataclass(frozen=True, slots=True)
class Snippet:
    """`name`: one word, for links; `file`: where it goes; `text`: what to copy."""

    name: str
    title: str
    file: str
    note: str
    text: str


def snippets(base: str) -> tuple[Snippet, ...]:
    """For the proxy at `base`, such as http://127.0.0.1:8080."""
    index = f"sparse+{base}/index/"
    return (
        Snippet(
            "cargo",
            "cargo",
            ".cargo/config.toml",
            "In a project, or in your home directory for all of them. Cargo.lock stays as it is: with or without the"
            " mirror it names crates.io.",
            cargo_lines.lines(index),
        ),
        Snippet(
            "environment",
            "Environment",
            "shell",
            "cargo reads no source replacement from the environment: builds need the file above. This gives the mirror"
            " its name, for the commands that take --registry: search, publish, yank, owner and install.",
            f'export CARGO_REGISTRIES_MIRROR_INDEX="{index}"\ncargo search --registry mirror serde\n',
        ),
        Snippet(
            "once",
            "One command",
            "shell",
            "Without any file: the same as options of a single command.",
            "cargo \\\n"
            "  --config 'source.crates-io.replace-with=\"mirror\"' \\\n"
            f"  --config 'source.mirror.registry=\"{index}\"' \\\n"
            "  fetch\n",
        ),
        Snippet(
            "docker",
            "Dockerfile",
            "Dockerfile",
            "Before the first cargo. The address must be reachable from where the image is built.",
            f"RUN {_written(index, ' ' * 4)}\n",
        ),
        Snippet(
            "github",
            "GitHub Actions",
            ".github/workflows/ci.yml",
            "As the first step of a job, on any runner that reaches the proxy.",
            f"- name: Use the crates mirror\n  run: |\n    {_written(index, ' ' * 6)}\n",
        ),
        Snippet(
            "gitlab",
            "GitLab CI",
            ".gitlab-ci.yml",
            "For all jobs; runners must reach the proxy.",
            f"default:\n  before_script:\n    - |\n      {_written(index, ' ' * 8)}\n",
        ),
        Snippet(
            "scripts",
            "Scripts",
            "shell",
            "The whole of crates.io's web API, cached: the same paths, another host.",
            f"curl {base}/api/v1/crates/serde\n",
        ),
    )


def _written(index: str, indent: str) -> str:
    """A shell command that writes the lines, in a form that Dockerfiles and YAML blocks take alike."""
    lines = ("[source.crates-io]", 'replace-with = "mirror"', "[source.mirror]", f'registry = "{index}"')
    return " \\\n".join(
        [
            "mkdir -p \"${CARGO_HOME:-$HOME/.cargo}\" && printf '%s\\n'",
            *(f"{indent}'{line}'" for line in lines),
            f'{indent}>> "${{CARGO_HOME:-$HOME/.cargo}}/config.toml"',
        ]
    )
