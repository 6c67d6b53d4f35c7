//! stub
use anyhow::Result; use tch::Tensor; use super::pictures::PictureShape;
#[derive(Clone,Copy,Debug,PartialEq,Eq)] pub enum Region{Whole,Quadrant}
#[derive(Clone,Copy,Debug)] pub struct PatchGrid{pub region:Region,pub patch:usize,pub rows:usize,pub cols:usize,pub channels:usize}
impl PatchGrid{ pub fn new(s:PictureShape,patch:usize,region:Region)->Result<Self>{ Ok(Self{region,patch,rows:s.height/patch,cols:s.width/patch,channels:s.channels}) }
 pub fn cut(&self,t:&Tensor)->Tensor{ let b=t.size()[0]; let (r,c,p,ch)=(self.rows as i64,self.cols as i64,self.patch as i64,self.channels as i64); t.view([b,r,p,c,p,ch]).permute([0,1,3,2,4,5]).reshape([b,r*c,p*p*ch]) } }
