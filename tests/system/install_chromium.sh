#!/usr/bin/env bash
# Install the browser that opens the pages in tests: Chromium, and a font with the signs of the pages; from Debian, as
# root. Quick when all is there.
set -euo pipefail

command -v chromium >/dev/null && [[ -e /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf ]] && exit 0
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-noto-color-emoji
