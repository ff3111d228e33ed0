//! Project chores: `cargo xtask generate|check|test|servers|corpus`.
mod generate_types;

fn main() -> anyhow::Result<()> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::fs::write(root.join("schemas/src/generated.rs"), generate_types::rust_types(&root.join("schemas/avro"))?)?;
    Ok(())
}
