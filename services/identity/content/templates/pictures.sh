#!/bin/sh
# Makes the pictures of README.md anew, with headless Chromium and cwebp: `make pictures`.
set -eu
cd "$(dirname "$0")/../../../.."
out=services/identity/content/templates/pictures
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cargo run --quiet --package usher-content --example mails -- "$work"
mkdir -p "$out"
for mail in invitation.en invitation.fr invitation.es invitation.de invitation.ar reminder.en account_created.en \
    fresh_link.en expiry_warning.en expiry_warning_to_administrators.en inactivity_warning.en; do
    for scheme in light:1 dark:0; do
        name=$mail.${scheme%:*}
        chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$work/profile" \
            --blink-settings=preferredColorScheme="${scheme#*:}" --window-size=390,720 \
            --screenshot="$work/$name.png" "file://$work/$mail.html" 2>/dev/null
        cwebp -quiet -q 80 "$work/$name.png" -o "$out/$name.webp"
    done
done
