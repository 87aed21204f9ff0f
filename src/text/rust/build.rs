fn main() {
    // src/ of the project: the bridge includes a header of C++.
    cxx_build::bridge("src/lib.rs").include("../..").std("c++20").compile("neutrino_text_bridge");
    println!("cargo:rerun-if-changed=src/lib.rs");
    println!("cargo:rerun-if-changed=../token_source.h");
}
