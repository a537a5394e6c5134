use imgrelay::model::*;
use imgrelay::pack::*;
use imgrelay::store::layout::*;
use imgrelay::stream::FileError;
use std::path::PathBuf;
fn main() {
    let mut a = std::env::args().skip(1);
    let out = a.next().unwrap();
    let level = a.next().unwrap();
    let roots: Vec<PathBuf> = a.map(Into::into).collect();
    let t = std::time::Instant::now();
    let o = LayerOptions {
        threads: 2,
        compression: level.parse().unwrap(),
        filter: imgrelay::tree::Filter::exact([".git"]),
        ..Default::default()
    };
    let mut w = LayoutTarWriter::create(&LayoutTarget::File(out.into())).unwrap();
    let layer = w
        .add_stream::<_, PackError>(|s| {
            let l = pack_layer(&roots, &o, s, &|_| {})?;
            Ok((l.descriptor.digest.clone(), l.descriptor.size, l))
        })
        .unwrap();
    eprintln!("{:?} {:?}", layer, t.elapsed());
    println!("{} {}", layer.diff_id, layer.uncompressed_size);
    let img = compose(
        &Profile::IMAGE,
        &[layer.clone()],
        &ImageOptions {
            media_types: MediaTypes::Oci,
            platform: None,
            labels: Default::default(),
            annotations: Default::default(),
        },
    );
    let cd = img.manifest.manifest().unwrap().config.digest.clone();
    w.add_bytes(&cd, &img.config).unwrap();
    w.add_document(&img.manifest).unwrap();
    let d = img.manifest.descriptor();
    let _: Result<(), FileError> = Ok(());
    w.finish(&LayoutIndex {
        manifests: vec![d],
        docker: Some(DockerImage::new(&cd, &[layer.descriptor], vec![])),
    })
    .unwrap();
    eprintln!("{:?}", t.elapsed());
}
