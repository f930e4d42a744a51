"""The page at `/`: what this is, what it says now, and where to read on."""

from __future__ import annotations

from html import escape
from string import Template

from pinchpoint import __version__
from pinchpoint.expose.state import PublishedState
from pinchpoint.expose.web_options import WebOptions

_LINKS = (
    ("metrics", "Metrics", "every series, for Prometheus"),
    ("api/v1/verdict", "Verdict", "the bottleneck and its evidence, as JSON"),
    ("-/healthy", "Healthy", "200 while the agent answers"),
    ("-/ready", "Ready", "200 once the agent has looked for servers"),
)

_PAGE = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Pinchpoint: $headline</title>
<style>
:root { color-scheme: light dark; --ink: #1b1f24; --faint: #5b6570; --line: #d8dee4;
  --paper: #ffffff; --link: #0a58ca; --mark: #5b6570; }
@media (prefers-color-scheme: dark) { :root { --ink: #d7dde3; --faint: #929ca6;
  --line: #30363d; --paper: #0f1317; --link: #79b0ff; --mark: #929ca6; } }
.healthy { --mark: #2da44e; } .bottleneck { --mark: #e5534b; } .unknown { --mark: #c69026; }
body { margin: 0 auto; max-width: 44rem; padding: 2.5rem 1.25rem; background: var(--paper);
  color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
h1 { margin: 0; font-size: 1.35rem; } h1 small, .faint, dt { color: var(--faint); }
h1 small { font-weight: normal; font-size: 0.95rem; }
section { margin: 1.75rem 0; padding: 0.9rem 1.1rem; border: 1px solid var(--line);
  border-left: 0.35rem solid var(--mark); border-radius: 0.4rem; }
section strong { font-size: 1.15rem; } section p { margin: 0.25rem 0 0; }
ul { padding: 0; list-style: none; } li { padding: 0.3rem 0; } a { color: var(--link); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.15rem 1rem;
  border-top: 1px solid var(--line); padding-top: 1rem; font-size: 0.9rem; }
dd { margin: 0; }
</style>
</head>
<body>
<h1>Pinchpoint <small>$version</small></h1>
<p class="faint">Names the bottleneck of the inference server beside it.</p>
<section class="$state"><strong>$headline</strong><p>$reason</p></section>
<ul>
$links
</ul>
<dl>
$facts
</dl>
</body>
</html>
""")


def landing_page(state: PublishedState, options: WebOptions, served: str) -> str:
    """The page as HTML, by itself: it loads nothing.

    Args:
        state: whose verdict is shown.
        options: what is offered.
        served: where and how this is served.
    """
    verdict_state, headline, reason = _verdict(state)
    links = (
        f'<li><a href="{path}">{name}</a> <span class="faint">{text}</span></li>'
        for path, name, text in _LINKS
    )
    facts = {
        "Served at": served,
        "Servers attached": str(state.snapshot.agent.rings_attached) if state.snapshot else "none",
        "Native histograms": "offered" if options.native_histograms else "off",
        "Reload": "SIGHUP, POST /-/reload" if options.enable_lifecycle else "SIGHUP",
    }
    return _PAGE.substitute(
        version=escape(__version__),
        state=escape(verdict_state),
        headline=escape(headline),
        reason=escape(reason),
        links="\n".join(links),
        facts="\n".join(f"<dt>{key}</dt><dd>{escape(fact)}</dd>" for key, fact in facts.items()),
    )


def _verdict(state: PublishedState) -> tuple[str, str, str]:
    """Its state, one line, and why."""
    if state.snapshot is None:
        return "unknown", "starting", "No server has been looked at yet: reload in a second."
    verdict = state.snapshot.verdict
    headline = verdict.state
    if verdict.active:
        headline = f"{verdict.state}: {verdict.primary}"
    return verdict.state, headline, verdict.reason
