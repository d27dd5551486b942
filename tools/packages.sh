#!/usr/bin/env bash
# Install the Debian packages that the project needs and that are missing: as root; anybody else is told which.
#   packages.sh [PYTHON]        PYTHON: the interpreter .venv will be made with
set -euo pipefail
python=${1:-python3}

packages=(
    iproute2        # ip: the lab's namespaces, links and addresses
    iputils-ping    # ping: for people; the lab measures with its own probes
    gcc libc6-dev   # the C kernels, and the sanitizers their tests run under
    libssl-dev      # AES-GCM and ChaCha20-Poly1305 for the C kernels
    libsodium-dev   # XSalsa20-Poly1305 for those of MLVPN 2.x's protocol
    libpcap0.8      # the expressions of [filters]
)
# AES-GCM at a quarter of the cost, where Debian has it.
[ "$(dpkg --print-architecture 2>/dev/null)" != amd64 ] || packages+=(libipsec-mb-dev)
# A Python that is not Debian's brings venv and headers with it.
case "$(command -v "$python" || echo /usr/bin/none)" in
    /usr/bin/*) packages+=(python3 python3-venv python3-dev) ;;
esac

if ! command -v dpkg-query >/dev/null; then
    echo "setup: this is not Debian; if something is missing, these are the packages in Debian's words: ${packages[*]}"
    exit 0
fi
missing=()
for package in "${packages[@]}"; do
    [ "$(dpkg-query -Wf '${db:Status-Abbrev}' "$package" 2>/dev/null | cut -c1-2)" = ii ] || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
    echo "setup: all Debian packages are there"
elif [ "$(id -u)" -ne 0 ]; then
    echo "setup: these Debian packages are missing, and only root can install them; what needs them will say so:"
    echo "    sudo apt-get install --no-install-recommends ${missing[*]}"
else
    echo "setup: installing Debian packages: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get install -y --no-install-recommends "${missing[@]}" || {
        apt-get update
        apt-get install -y --no-install-recommends "${missing[@]}"
    }
fi
