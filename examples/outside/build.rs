//! Tells the loader where libtorch lies. What lvd's own build script says of it holds for lvd's own programs alone. LIBTORCH is
//! set in the shell, or in a `.cargo/config.toml` above this package.

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    if let Ok(libtorch) = std::env::var("LIBTORCH") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{libtorch}/lib");
    }
}
