"""Look up the installed packages in PyPI's list of known vulnerabilities, by pip-audit.

Fails where one is known. A package that the index does not answer for is counted, not passed in
silence; where nothing answers, as on a machine without a network, that is said.
"""

import json
import subprocess
import sys

COMMAND = (sys.executable, "-m", "pip_audit", "--progress-spinner=off", "--format=json")
LONGEST_SECONDS = 300.0


def main() -> int:
    """Print what was found; 1 where something was."""
    done = subprocess.run(
        [*COMMAND, "--timeout=10"],
        check=False,
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS,
    )
    if not done.stdout.startswith("{"):
        print(f"audit: skipped, no index answers: {done.stderr.strip().splitlines()[-1:]}")
        return 0
    packages = json.loads(done.stdout)["dependencies"]
    asked = [each for each in packages if "vulns" in each]
    known = [(each, one) for each in asked for one in each["vulns"]]
    for package, vulnerability in known:
        fixed = ", ".join(vulnerability["fix_versions"]) or "no release yet"
        print(f"{package['name']} {package['version']}: {vulnerability['id']}, mended in {fixed}")
    print(
        f"audit: {len(asked)} of {len(packages)} packages looked up, "
        f"{len(known)} known vulnerabilities"
    )
    return 1 if known else 0


if __name__ == "__main__":
    sys.exit(main())
