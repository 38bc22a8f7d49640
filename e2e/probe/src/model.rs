//! Reads a model as a serving process does: the weights are mapped, not copied, and every number takes part in the result.
//! Format: <https://huggingface.co/docs/safetensors>: a little-endian u64 with the header's length, the JSON header, the data.

use std::{fs::File, path::Path};

use anyhow::{Context, ensure};
use serde_json::Value;

/// One line per F32 tensor, sorted by name: name, number of elements, Euclidean norm.
pub fn norms(path: &Path) -> anyhow::Result<Vec<String>> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    // SAFETY: the file is on a read-only mount or is not written while this program runs; a bad read ends it by SIGBUS.
    let map = unsafe { memmap2::Mmap::map(&file) }.with_context(|| format!("mapping {}", path.display()))?;
    ensure!(map.len() >= 8, "{} is shorter than a safetensors header", path.display());
    let header_len = usize::try_from(u64::from_le_bytes(map[..8].try_into()?))?;
    let header = map.get(8..8 + header_len).context("the header is longer than the file")?;
    let tensors: serde_json::Map<String, Value> =
        serde_json::from_slice(header).context("the header is no JSON object")?;
    let data = &map[8 + header_len..];
    let mut lines = Vec::new();
    for (name, tensor) in &tensors {
        if tensor["dtype"] != "F32" {
            continue;
        }
        let offset = |i: usize| tensor["data_offsets"][i].as_u64().and_then(|n| usize::try_from(n).ok());
        let range = offset(0).zip(offset(1)).with_context(|| format!("{name} has no data_offsets"))?;
        let bytes = data.get(range.0..range.1).with_context(|| format!("{name} lies outside the file"))?;
        let squares: f64 =
            bytes.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]])).powi(2)).sum();
        lines.push(format!("{name} {} {:.9e}", bytes.len() / 4, squares.sqrt()));
    }
    lines.sort_unstable();
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_norm_of_a_known_tensor() {
        let header = br#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header);
        bytes.extend_from_slice(&3f32.to_le_bytes());
        bytes.extend_from_slice(&4f32.to_le_bytes());
        let path = std::env::temp_dir().join(format!("granary-probe-model-{}", std::process::id()));
        std::fs::write(&path, &bytes).unwrap();
        let lines = norms(&path);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(lines.unwrap(), ["w 2 5.000000000e0"]);
    }
}
