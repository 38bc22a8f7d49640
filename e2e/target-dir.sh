# Sourced by the scripts beside it. Build results are kept outside of the checkout, so that another clone need not build every
# dependency again. Cargo tells by times and by paths within the checkout what is fresh, so it would take another clone's crates
# for this one's: a checkout that follows another one makes its own files look new.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/granary/target}"
mkdir -p "$CARGO_TARGET_DIR"
if [ "$(cat "$CARGO_TARGET_DIR/checkout" 2>/dev/null)" != "$PWD" ]; then
    git ls-files -z | xargs -0 touch --no-create
    printf '%s' "$PWD" >"$CARGO_TARGET_DIR/checkout"
fi
