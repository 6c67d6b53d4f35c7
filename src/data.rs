//! stub
pub mod pictures; mod source; pub mod patches; pub mod batches; pub mod view;
use anyhow::Result; use schemars::JsonSchema; use serde::{Serialize,Deserialize}; use pictures::*; use std::path::{Path,PathBuf};
use crate::refusal::Problems;
#[derive(Clone,Copy,Debug,PartialEq,Eq,Serialize,Deserialize,JsonSchema,clap::ValueEnum)] #[serde(rename_all="snake_case")] pub enum Split{Train,Valid,Test}
impl Split { pub fn name(self)->&'static str { match self {Self::Train=>"train",Self::Valid=>"valid",Self::Test=>"test"} } }
#[derive(Clone,Copy,Debug,PartialEq,Eq,Serialize,Deserialize,JsonSchema,clap::ValueEnum)] #[serde(rename_all="snake_case")] pub enum Format{Idx,Cifar10,Embedded}
#[derive(Clone,Debug,Serialize,Deserialize,JsonSchema)] pub struct DataConfig{pub format:Format, pub root:Option<PathBuf>, pub train_limit: Option<usize>}
impl DataConfig{pub fn check(&self,_:&str,_:&mut Problems){}}
pub struct DataSet{pub train:Pictures,pub valid:Pictures,pub test:Pictures}
impl DataSet{pub fn part(&self,s:Split)->&Pictures{match s{Split::Train=>&self.train,Split::Valid=>&self.valid,Split::Test=>&self.test}}}
pub fn open_pictures(_:Format,_:&Path,_:Split,_:&DataConfig)->Result<Pictures>{todo!()}
fn idx(p:&Path,n:usize)->Vec<u8>{use std::io::Read; let mut v=Vec::new(); flate2::read::GzDecoder::new(std::fs::File::open(p).unwrap()).read_to_end(&mut v).unwrap(); v[16..16+n*784].to_vec()}
pub fn open(c:&DataConfig,_seed:u64)->Result<DataSet>{
 match c.format {
  Format::Embedded=>{ let mut rows=csv::ReaderBuilder::new().has_headers(false).from_reader(flate2::read::GzDecoder::new(&include_bytes!("/tmp/h1/src/data/embedded/digits.csv.gz")[..]));
   let mut px:Vec<[u8;64]>=vec![]; for r in rows.records(){let r=r?; let v:Vec<u8>=r.iter().take(64).map(|x|x.parse().unwrap()).collect(); px.push(v.try_into().unwrap());}
   use rand::seq::SliceRandom; px.shuffle(&mut crate::device::rng(0,"digits split",0));
   let shape=PictureShape{height:8,width:8,channels:1,levels:17};
   let mk=|r:std::ops::Range<usize>|Pictures::from_bytes(px[r].concat(),shape);
   Ok(DataSet{train:mk(0..1297)?,valid:mk(1297..1497)?,test:mk(1497..1797)?}) }
  Format::Idx=>{ let root=c.root.clone().unwrap(); let shape=PictureShape{height:28,width:28,channels:1,levels:256}; let tr=idx(&root.join("train-images-idx3-ubyte.gz"),60000); let te=idx(&root.join("t10k-images-idx3-ubyte.gz"),10000);
   let n=c.train_limit.unwrap_or(55000);
   Ok(DataSet{train:Pictures::from_bytes(tr[..n*784].to_vec(),shape)?,valid:Pictures::from_bytes(tr[55000*784..].to_vec(),shape)?,test:Pictures::from_bytes(te,shape)?}) }
  Format::Cifar10=>{ let root=c.root.clone().unwrap(); let shape=PictureShape{height:32,width:32,channels:3,levels:256};
   let rd=|n:&str|{let b=std::fs::read(root.join(n)).unwrap(); let mut o=Vec::with_capacity(b.len()); for r in b.chunks(3073){ for i in 0..1024{ for ch in 0..3 {o.push(r[1+ch*1024+i]);}}} o};
   let mut tr=vec![]; for i in 1..5{tr.extend(rd(&format!("data_batch_{i}.bin")));} if let Some(n)=c.train_limit{tr.truncate(n*3072);}
   Ok(DataSet{train:Pictures::from_bytes(tr,shape)?,valid:Pictures::from_bytes(rd("data_batch_5.bin"),shape)?,test:Pictures::from_bytes(rd("test_batch.bin"),shape)?}) }
 }}
