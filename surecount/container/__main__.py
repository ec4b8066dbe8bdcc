"""``python -m surecount.container ROLE …``: make ready what a role needs, and become it.

The process is replaced, not forked: whoever started it has the role's own process for a child.
"""

from __future__ import annotations

import os
import sys

from surecount.container.roles import prepare
from surecount.errors import SurecountError


def main() -> None:
    try:
        command = prepare(sys.argv[1:], os.environ)
        os.execvpe(command.argv[0], command.argv, command.env)
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except SurecountError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
