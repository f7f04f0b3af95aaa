"""``pytest --ringbuf[=DIRECTORY]``: the tests on a time line, and the last moments of each that fails.

This is all that pytest imports where nobody asks for it; the rest is ringbuf.integrations.pytest.
"""


def pytest_addoption(parser):
    parser.getgroup("ringbuf").addoption(
        "--ringbuf",
        metavar="DIRECTORY",
        nargs="?",
        const="ringbuf-tests",
        help="record each test, its phases and fixtures, and what is logged; a snapshot for each failure (%(const)s)",
    )


def pytest_configure(config):
    if config.getoption("ringbuf") is not None:
        from ringbuf.integrations.pytest import Plugin

        config.pluginmanager.register(Plugin(config), "ringbuf-recorder")
