import re,subprocess,sys
ROOT=__import__('pathlib').Path(__file__).parents[2]
def sites():
    pre=subprocess.run(["g++","-std=c++17","-fpermissive","-E","-I"+str(ROOT/"include"),"-I"+str(ROOT/"tests/model"),"-x","c++",str(ROOT/"tests/model/producers.cc")],stdout=subprocess.PIPE,text=True,check=True).stdout
    file=None;line=0;out=[]
    for l in pre.splitlines():
        m=re.match(r'# (\d+) "(.*?)"',l)
        if m: line=int(m[1]);file=m[2];continue
        for m in re.finditer(r'model_order\(rl::mo_(\w+), (\d+)\)',l):
            out.append((int(m[2]),file,line,m[1]))
        line+=1
    return out
if __name__=="__main__":
    for s in sites(): print(*s)
