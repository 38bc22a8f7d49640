//! Granary's processes in pods, as the machine sees them.

/// Process ids of those whose command line begins with these words.
pub fn of(words: &[&str]) -> Vec<u32> {
    let begin: Vec<u8> = words.iter().flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default().starts_with(&begin)).collect()
}
